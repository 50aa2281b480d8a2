"""Servers that belong together: what is promoted has what it had, and nothing is left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orbit.errors import StoreUnusable
from orbit.store.embedded import EmbeddedCluster, EmbeddedServer, ReplicatedServer, SentinelTrio
from orbit.store.embedded.group import Group, until
from orbit.store.keys import slot_of

KEY = "key"
SLOT = slot_of(KEY)


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be left where servers keep their data."""
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    yield
    assert not list(short.iterdir())
    short.rmdir()


async def lose_a_write(group: Group, primary: EmbeddedServer, replica: EmbeddedServer) -> None:
    """The replica has `1`; `2` it never gets."""
    await primary.command("SET", KEY, "1")
    await group.synced()
    await group.cut_off(replica)
    await primary.command("SET", KEY, "2")


async def holds(server: EmbeddedServer, value: bytes) -> None:
    async def so() -> bool:
        return bool(await server.command("GET", KEY) == value)

    await until(f"having {value!r}", so)


async def test_a_replica_that_was_cut_off_is_promoted() -> None:
    async with ReplicatedServer(2) as group:
        first, second, third = group.servers
        await lose_a_write(group, first, second)
        await holds(third, b"2")
        await group.promote(second)
        await holds(second, b"1")
        await holds(third, b"1")
        assert await group.primaries() == [second]
        assert await group.replicas_of(second) == [first, third]


async def test_sentinels_promote_a_replica() -> None:
    async with SentinelTrio() as group:
        first, second = group.servers
        await lose_a_write(group, first, second)
        await group.promote(second)
        assert await group.primary() is second
        await holds(second, b"1")
        await holds(first, b"1")
        second.kill()
        assert await group.replaced(second) is first


async def test_a_cluster_moves_slots_and_fails_over() -> None:
    async with EmbeddedCluster() as cluster:
        source = await cluster.primary_of(SLOT)
        target = next(server for server in cluster.servers[:3] if server is not source)
        replica = cluster.servers[cluster.servers.index(target) + 3]
        await source.command("SET", KEY, "1")
        await cluster.begin_move(SLOT, source, target)
        assert await cluster.move_keys(SLOT, source, target, most=0) == 1
        assert await cluster.move_keys(SLOT, source, target) == 0
        await cluster.end_move(SLOT, source, target)
        assert await cluster.primary_of(SLOT) is target
        await holds(target, b"1")
        await lose_a_write(cluster, target, replica)
        await cluster.promote(replica)
        await holds(replica, b"1")
        await cluster.move_at_once(SLOT, SLOT, replica, source)
        assert await cluster.primary_of(SLOT) is source
        source.kill()
        await cluster.whole()
        await holds(await cluster.primary_of(SLOT), b"1")


async def test_what_can_t_start_leaves_nothing_behind() -> None:
    with pytest.raises(StoreUnusable):
        await EmbeddedCluster(config={"no-such-option": "1"}).start()


async def test_one_that_is_paused_can_be_stopped() -> None:
    async with EmbeddedServer() as server:
        server.pause()
        server.resume()
        assert await server.command("PING") == b"PONG"
        server.pause()
