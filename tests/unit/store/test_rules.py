"""deploy/redis/users.acl: it is enough, nothing of it is too much, and what is missing is named."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.resources import files

import pytest

from orbit.errors import StoreUnusable
from orbit.store.durability import Durability
from orbit.store.embedded import EmbeddedCluster, EmbeddedServer
from orbit.store.script import PROBE
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from tests.support.acl import FILE, PASSWORD, allowed, orbit_rules

CLUSTER = {"cluster|slots", "cluster|info", "asking"}
DURABLE = {"wait": Durability("replicated", 1), "waitaof": Durability("fsync")}
WITHOUT_HARM = {"info", "client|setinfo"}
"""`info` tells of a maxmemory-policy that drops keys; the client library says its name."""
_CALL = re.compile(r"redis\.call\('([A-Z]+)'")


@pytest.fixture
async def aof() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as server:
        yield server


def named(url: str) -> str:
    return url.replace("://", f"://orbit:{PASSWORD}@")


async def rule(server: EmbeddedServer, settings: StoreSettings, *more: str) -> None:
    await server.command("ACL", "SETUSER", "orbit", "reset", *orbit_rules(settings.namespace), *more)


def test_it_allows_what_the_scripts_use_and_the_probe_tries_all_of_that() -> None:
    scripts = files("orbit.store") / "scripts"
    found = [file for folder in (scripts, scripts / "lib") for file in folder.iterdir() if file.is_file()]
    texts = [file.read_text("utf-8") for file in found]
    used = {name for text in texts for name in _CALL.findall(text)}
    assert used == set(_CALL.findall(PROBE.source))
    assert {name.lower() for name in used} < set(allowed())


def test_the_page_lists_the_same() -> None:
    page = (FILE.parents[2] / "docs" / "redis.md").read_text("utf-8")
    (block,) = re.findall(r"```text\n(evalsha .*?)```", page, re.DOTALL)
    assert sorted(block.split()) == sorted(allowed())


async def test_it_is_enough(server: EmbeddedServer, settings: StoreSettings) -> None:
    await rule(server, settings)
    await server.command("ACL", "LOG", "RESET")
    store = await Store.open(named(server.url) + "?db=1", settings)
    await store.close()
    assert await server.command("ACL", "LOG") == []


@pytest.mark.parametrize("command", sorted(set(allowed()) - CLUSTER - set(DURABLE) - WITHOUT_HARM))
async def test_without_a_command_the_start_says_which(
    server: EmbeddedServer, settings: StoreSettings, command: str
) -> None:
    await rule(server, settings, f"-{command}")
    url = named(server.url) + ("?db=1" if command == "select" else "")
    with pytest.raises(StoreUnusable) as caught:
        await Store.open(url, settings)
    assert "rules" in str(caught.value) or "refuses the connection" in str(caught.value)
    assert command in str(caught.value).lower()


@pytest.mark.parametrize("command", sorted(DURABLE))
async def test_without_what_a_durability_asks_for(
    aof: EmbeddedServer, settings: StoreSettings, command: str
) -> None:
    await rule(aof, settings, f"-{command}")
    with pytest.raises(StoreUnusable, match=command):
        await Store.open(named(aof.url), StoreSettings(settings.namespace, durability=DURABLE[command]))


async def test_on_a_cluster(settings: StoreSettings) -> None:
    async with EmbeddedCluster(primaries=1, replicas=0) as cluster:
        (server,) = cluster.servers
        await rule(server, settings)
        store = await Store.open(named(cluster.url), settings)
        await store.close()
        for command in CLUSTER:
            await rule(server, settings, f"-{command}")
            with pytest.raises(StoreUnusable) as caught:
                await Store.open(named(cluster.url), settings)
            assert command in str(caught.value).lower()
