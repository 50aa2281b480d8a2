"""What must hold what is acknowledged: as options say it, as it is recorded, and as a server answers for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from orbit.errors import StoreUnusable, Unavailable
from orbit.store import script
from orbit.store.durability import ACKNOWLEDGES, KINDS, MEMORY, Durability, durability, recorded
from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings

FSYNC, REPLICATED = Durability("fsync"), Durability("replicated", 2)
BOTH = Durability("replicated-fsync", 2)


def test_what_is_recorded_is_read_again() -> None:
    assert {str(one): recorded(str(one)) for one in (MEMORY, FSYNC, REPLICATED, BOTH)} == {
        "memory": MEMORY, "fsync": FSYNC, "replicated 2": REPLICATED, "replicated-fsync 2": BOTH,
    }  # fmt: skip
    for text in ("paper", "replicated two", ""):
        with pytest.raises(StoreUnusable, match="doesn't know"):
            recorded(text)


def test_options() -> None:
    assert durability(None) is None
    assert durability("memory") == MEMORY
    assert durability("fsync", None) == FSYNC
    assert durability("replicated") == Durability("replicated", 1)
    assert durability("replicated-fsync", 2) == BOTH
    for kind, replicas, advice in (
        (None, 1, "name that, too"), ("paper", None, ", ".join(KINDS)), ("memory", 1, "leave --replicas out"),
        ("replicated", 0, "1 to 100"), ("replicated", 101, "1 to 100"),
    ):  # fmt: skip
        with pytest.raises(StoreUnusable, match=advice):
            durability(kind, replicas)


def test_what_a_server_s_answer_is_worth() -> None:
    assert (REPLICATED.missing(2), REPLICATED.missing(3)) == ("", "")
    assert REPLICATED.missing(1) == "1 of 2 replicas had it in time"
    assert FSYNC.missing([1, 0]) == ""
    assert "wasn't synced" in FSYNC.missing([0, 0])
    assert BOTH.missing([1, 2]) == ""
    assert "1 of 2" in BOTH.missing([1, 1])
    assert "wasn't synced" in BOTH.missing([0, 2])


def test_what_is_asked_of_a_server() -> None:
    assert REPLICATED.commands(90) == (("WAIT", 2, 90),)
    assert FSYNC.commands(90) == (("WAITAOF", 1, 0, 90),)
    assert BOTH.commands(90) == (("WAIT", 2, 9), ("WAITAOF", 1, 2, 81))
    assert BOTH.commands(1) == (("WAIT", 2, 1), ("WAITAOF", 1, 2, 1)), "0 would be for ever"
    assert not MEMORY.waits


def test_what_acknowledges_is_a_script_that_writes() -> None:
    writing = {one.name for one in vars(script).values() if isinstance(one, script.Script) and one.writes}
    assert set(ACKNOWLEDGES) < writing


# ---- a deployment's


@pytest.fixture(scope="module")
def synced() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(config={"appendfsync": "always"}) as server:
        yield server


async def refused(url: str, settings: StoreSettings, error: type[Exception] = StoreUnusable) -> str:
    with pytest.raises(error) as caught:
        await Store.open(url, settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_it_is_recorded_at_the_first_use_and_checked_afterwards(
    synced: EmbeddedServer, settings: StoreSettings
) -> None:
    first = await Store.open(synced.url, replace(settings, durability=FSYNC))
    second = await Store.open(synced.url, settings)
    assert (first.durability, second.durability) == (FSYNC, FSYNC)
    said = await refused(synced.url, replace(settings, durability=MEMORY))
    assert "has durability fsync, not memory" in said
    assert "orbit durability" in said
    await first.close()
    await second.close()


async def test_what_redis_lost_of_a_deployment_is_recorded_again_by_who_knows_it(
    server: EmbeddedServer, settings: StoreSettings
) -> None:
    first = await Store.open(server.url, settings)
    key = first.keys.deployment
    before = await first.link.read("HGETALL", key)
    await first.record_again()
    await first.link.write("DEL", key)
    await first.record_again()
    assert await first.link.read("HGETALL", key) == before
    await first.link.write("DEL", key)
    second = await Store.open(server.url, settings)
    with pytest.raises(StoreUnusable, match="start every process again"):
        await first.record_again()
    await first.close()
    await second.close()


async def test_it_is_memory_unless_told(server: EmbeddedServer, settings: StoreSettings) -> None:
    store = await Store.open(server.url, settings)
    assert store.durability == MEMORY
    await store.close()


async def test_it_is_changed_for_those_that_start_afterwards(synced: EmbeddedServer, settings: StoreSettings) -> None:
    settings = replace(settings, timeout_s=5.0)
    store = await Store.open(synced.url, settings)
    await store.change_durability(FSYNC)
    assert (await Store.open(synced.url, settings, keep=False)).durability == FSYNC
    with pytest.raises(Unavailable, match="0 of 2 replicas"):
        await store.change_durability(REPLICATED)
    again = await Store.open(synced.url, settings, keep=False)
    assert again.durability == FSYNC, "what can't be had isn't recorded"
    await again.change_durability(MEMORY)
    assert (await Store.open(synced.url, replace(settings, durability=MEMORY))).durability == MEMORY


async def test_what_can_t_be_had_can_be_given_up(server: EmbeddedServer, settings: StoreSettings) -> None:
    settings = replace(settings, timeout_s=3.0)
    assert "replicated 2, can't be had now: Redis did it, but 0 of 2" in await refused(
        server.url, replace(settings, durability=REPLICATED), Unavailable
    )
    store = await Store.open(server.url, settings, keep=False)
    assert store.durability == REPLICATED
    await store.change_durability(MEMORY)
    await store.close()
    await (await Store.open(server.url, settings)).close()


async def test_no_append_only_file(server: EmbeddedServer, settings: StoreSettings) -> None:
    said = await refused(server.url, replace(settings, durability=FSYNC))
    assert "can't have durability fsync: set appendonly yes" in said


async def test_a_server_that_never_syncs(settings: StoreSettings) -> None:
    async with EmbeddedServer(config={"appendfsync": "no"}) as server:
        said = await refused(server.url, replace(settings, durability=FSYNC, timeout_s=3.0), Unavailable)
    assert "its append-only file wasn't synced in time" in said


async def test_a_server_that_is_too_old_for_it(settings: StoreSettings) -> None:
    async with EmbeddedServer(config={"rename-command": 'WAITAOF ""'}) as server:
        said = await refused(server.url, replace(settings, durability=FSYNC))
    assert "upgrade it to Redis 7.2 or Valkey" in said
