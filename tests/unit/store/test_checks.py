"""What each process checks before it does anything. Each failure is one line that says what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection as Connection

from orbit.errors import StoreUnusable, Unavailable
from orbit.store.address import connector
from orbit.store.checks import _check_server
from orbit.store.embedded import EmbeddedServer
from orbit.store.link import Link
from orbit.store.store import Store
from orbit.store.topology import Single
from orbit.store.types import StoreSettings

ORBIT = "on >secret resetkeys resetchannels nocommands"


@pytest.fixture
async def admin(server: EmbeddedServer) -> AsyncIterator[Any]:
    client = Redis.from_url(server.url, protocol=2)
    yield client
    await client.acl_deluser("limited")
    await client.aclose()


async def unusable(url: str, settings: StoreSettings) -> str:
    with pytest.raises(StoreUnusable) as caught:
        await Store.open(url, settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


async def as_user(admin: Any, server: EmbeddedServer, settings: StoreSettings, rules: str) -> str:
    await admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rules.split())
    return server.url.replace("unix://", "unix://limited:secret@")


# ---- the deployment


async def test_the_partitions_are_recorded_at_the_first_use(server: EmbeddedServer, settings: StoreSettings) -> None:
    first = await Store.open(server.url, settings)
    second = await Store.open(server.url, replace(settings, partitions=None))
    assert (first.partitions, second.partitions) == (4, 4)
    assert first.public_name("tx", "s") == second.public_name("tx", "s")  # type: ignore[arg-type]
    await first.close()
    await second.close()
    assert "has 4 partitions, not 8" in await unusable(server.url, replace(settings, partitions=8))


async def test_a_new_deployment_has_256(server: EmbeddedServer, settings: StoreSettings) -> None:
    store = await Store.open(server.url, replace(settings, partitions=None))
    assert store.partitions == 256
    await store.close()


@pytest.mark.parametrize("partitions", [0, -1, 4097])
async def test_a_count_that_is_none(server: EmbeddedServer, settings: StoreSettings, partitions: int) -> None:
    assert "1 to 4096" in await unusable(server.url, replace(settings, partitions=partitions))


async def test_a_deployment_of_another_format(server: EmbeddedServer, admin: Any, settings: StoreSettings) -> None:
    await admin.hset(f"{settings.namespace}:deployment", "format", "2")
    assert "format 2" in await unusable(server.url, settings)


async def test_two_deployments_have_two_secrets(server: EmbeddedServer, settings: StoreSettings) -> None:
    one = await Store.open(server.url, settings)
    other = await Store.open(server.url, replace(settings, namespace=f"{settings.namespace}-2"))
    assert one.derived_id("a", "b") != other.derived_id("a", "b")
    assert one.derived_id("a", "b") == one.derived_id("a", "b")
    assert one.derived_id("a", "b") != one.derived_id("ab", "")
    assert one.derived_id("a") != one.public_name("a", "")  # type: ignore[arg-type]
    await one.close()
    await other.close()


# ---- the server


class _Hello:
    """A link to a server that calls itself so."""

    topology = Single(connector("redis://nowhere:1", 1), 1)

    def __init__(self, **says: str) -> None:
        self._says = {"server": "redis", "version": "7.0.0", "mode": "standalone", "role": "master"} | says

    async def read(self, *command: str, at: str) -> list[bytes | int]:
        assert (command, at) == (("HELLO",), "key")
        flat: list[bytes | int] = [b"proto", 2]
        for name, value in self._says.items():
            flat += [name.encode(), value.encode()]
        return flat


def server_that_says(**says: str) -> Link:
    return cast(Link, _Hello(**says))


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.1.0", "10.0.1"])
async def test_new_enough(version: str) -> None:
    await _check_server(server_that_says(version=version), "key")


@pytest.mark.parametrize("version", ["6.2.14", "5.0.0", ""])
async def test_too_old(version: str) -> None:
    with pytest.raises(StoreUnusable, match=r"needs Redis 7\.0 or Valkey 7\.2"):
        await _check_server(server_that_says(version=version), "key")


async def test_a_replica() -> None:
    with pytest.raises(StoreUnusable, match="primary"):
        await _check_server(server_that_says(role="replica"), "key")


async def test_a_cluster_node(settings: StoreSettings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        bus = str(free.getsockname()[1])
    async with EmbeddedServer(tcp=True, config={"cluster-enabled": "yes", "cluster-port": bus}) as server:
        assert "redis+cluster://" in await unusable(server.url, settings)


async def test_a_server_without_hello(
    server: EmbeddedServer, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Link.read

    async def old(self: Link, *command: Any, at: str | None = None) -> Any:
        return await read(self, *(("HULLO",) if command == ("HELLO",) else command), at=at)

    monkeypatch.setattr(Link, "read", old)
    assert "older than 6" in await unusable(server.url, settings)


async def test_a_server_that_drops_keys(settings: StoreSettings) -> None:
    async with EmbeddedServer(config={"maxmemory-policy": "allkeys-lru"}) as server:
        assert "set maxmemory-policy noeviction" in await unusable(server.url, settings)


# ---- the rules


async def test_rules_that_allow_just_what_is_needed(
    server: EmbeddedServer, admin: Any, settings: StoreSettings
) -> None:
    rules = f"~{settings.namespace}:* &{settings.namespace}:* +@all -@dangerous +info"
    store = await Store.open(await as_user(admin, server, settings, rules), settings)
    await store.close()


async def test_rules_without_info_will_do(server: EmbeddedServer, admin: Any, settings: StoreSettings) -> None:
    rules = f"~{settings.namespace}:* &{settings.namespace}:* +@all -@dangerous"
    store = await Store.open(await as_user(admin, server, settings, rules), settings)
    await store.close()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("~{ns}:* &{ns}:* +@all -evalsha -eval", "scripts"),
        ("~{ns}:* &{ns}:* +@all -xadd", "scripts"),
        ("~other:* &{ns}:* +@all", "scripts"),
        ("~{ns}:* &{ns}:* +@all -spublish", "scripts"),
        ("~{ns}:* &{ns}:* +@all -ssubscribe", "pub/sub"),
        ("~{ns}:* resetchannels +@all", "{ns}:*"),
    ],
)
async def test_rules_that_forbid_what_is_needed(
    server: EmbeddedServer, admin: Any, settings: StoreSettings, rules: str, says: str
) -> None:
    url = await as_user(admin, server, settings, rules.format(ns=settings.namespace))
    text = await unusable(url, settings)
    assert "rules (ACL)" in text
    assert says.format(ns=settings.namespace) in text


async def test_a_wrong_password(server: EmbeddedServer, settings: StoreSettings) -> None:
    url = server.url.replace("unix://", "unix://limited:wrong-password@")
    assert "wrong-password" not in await unusable(url, settings)


async def test_a_database_that_isn_t_there(server: EmbeddedServer, settings: StoreSettings) -> None:
    assert "DB index" in await unusable(f"{server.url}?db=9999", settings)


async def test_a_server_that_never_confirms_a_subscription(
    server: EmbeddedServer, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "send_command", _swallow(Connection.send_command, "SSUBSCRIBE"))
    with pytest.raises(Unavailable):
        await Store.open(server.url, replace(settings, timeout_s=0.2))


def _swallow(send: Any, what: str) -> Any:
    async def send_command(self: Connection, *command: Any, **options: Any) -> None:
        if command[0] != what:
            await send(self, *command, **options)

    return send_command


# ---- the address


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis//x", "redis://h:port", "redis://h/?db=x"])
async def test_what_is_no_address(url: str, settings: StoreSettings) -> None:
    assert "Redis URL" in await unusable(url, settings)


async def test_nobody_there(settings: StoreSettings) -> None:
    with pytest.raises(Unavailable, match=r"no Redis at redis://127\.0\.0\.1:1/0") as caught:
        await Store.open("redis://user:pass@127.0.0.1:1/0", settings)
    assert "pass" not in str(caught.value)


async def test_waiting_for_a_server_says_so_once(settings: StoreSettings) -> None:
    server = EmbeddedServer(tcp=True)
    await server.start()
    url = server.url
    server.kill()
    said: asyncio.Queue[str] = asyncio.Queue()
    opening = asyncio.ensure_future(Store.open(url, settings, wait=True, say=said.put_nowait))
    assert (await said.get()).startswith(f"waiting for Redis at {url}")
    await server.start()
    store = await opening
    assert said.empty()
    await store.close()
    await server.stop()
