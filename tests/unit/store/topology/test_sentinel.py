"""The primary that Sentinels name: found, and left when they name another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from orbit.errors import OutcomeUnknown, StoreUnusable, Unavailable
from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.embedded import EmbeddedServer, SentinelTrio
from orbit.store.embedded.group import role_of
from orbit.store.embedded.server import free_port
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.store.topology import sentinel
from tests.support.waiting import PATIENCE_S, soon

TX = TxId("transaction-00000001")


@pytest.fixture(scope="module")
def trio() -> Iterator[SentinelTrio]:
    made = SentinelTrio(down_after_ms=15_000, config={"appendonly": "no"})  # a slow server isn't a dead one
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture
async def store(trio: SentinelTrio, settings: t.StoreSettings) -> AsyncIterator[Store]:
    store = await Store.open(trio.url, settings)
    yield store
    await store.close()


async def switch(trio: SentinelTrio) -> tuple[EmbeddedServer, EmbeddedServer]:
    """The Sentinels name another primary; the one before, which doesn't know it yet, and the new one."""
    before = await trio.primary()

    async def asked() -> bool:
        try:
            return bool(await trio.sentinels[0].command("SENTINEL", "FAILOVER", "orbit") == b"OK")
        except Exception:  # not yet: the last one is too fresh
            return False

    await soon(asked)
    return before, await trio.replaced(before)


async def settle(trio: SentinelTrio, before: EmbeddedServer, after: EmbeddedServer) -> None:
    """As the Sentinels would do some seconds later."""
    await before.command("REPLICAOF", "127.0.0.1", after.port)
    await trio._at_peace()
    await trio.synced()


def new() -> t.NewTransaction:
    return t.NewTransaction(TX, "Demo", 1, "default", b"{}", "d", False, 100, 60.0)


async def test_a_primary_that_doesn_t_know_yet_is_left(trio: SentinelTrio, store: Store) -> None:
    """It would take all that it is given, and lose it."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    subscriber = Subscriber(
        store, on_live=lambda tx, message: told.put_nowait(message.number), on_gap=lambda: told.put_nowait("gap")
    )
    running = asyncio.ensure_future(subscriber.run())
    await store.start(new())
    await subscriber.watch(TX)
    before, after = await switch(trio)
    async with asyncio.timeout(PATIENCE_S):
        assert await told.get() == "gap"
    assert await role_of(before) == "master", "it was left before the Sentinels told it"
    await store.link.write("SET", store.keys.probe(0), "after")
    assert await after.command("GET", store.keys.probe(0)) == b"after"
    assert await before.command("GET", store.keys.probe(0)) is None
    await store.cancel(TX, "why")
    async with asyncio.timeout(PATIENCE_S):
        while await told.get() != 1:
            pass
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await settle(trio, before, after)


async def test_what_a_replica_refuses_is_written_once_at_the_primary(
    trio: SentinelTrio, settings: t.StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives on, and leads to a server that isn't the primary any more."""
    monkeypatch.setattr(sentinel, "LOOK_S", 3_600.0)
    store = await Store.open(trio.url, settings)
    key = store.keys.probe(0)
    assert await store.link.write("INCR", key) == 1
    before, after = await switch(trio)
    await settle(trio, before, after)
    monkeypatch.setattr(sentinel, "LOOK_S", 0.1)
    assert await store.link.write("INCR", key) == 2
    assert await after.command("GET", key) == b"2"
    await store.close()


async def test_who_isn_t_the_primary_isn_t_spoken_to(trio: SentinelTrio, settings: t.StoreSettings) -> None:
    """The Sentinels name it still, or already; it calls itself a replica, and would answer with what is old."""
    primary = await trio.primary()
    await primary.command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(Unavailable, match="isn't the primary"):
        await Store.open(trio.url, settings)
    await primary.command("REPLICAOF", "NO", "ONE")
    store = await Store.open(trio.url, settings)
    await store.close()
    await trio.synced()


async def test_a_sentinel_that_is_away_doesn_t_matter(trio: SentinelTrio, settings: t.StoreSettings) -> None:
    trio.sentinels[0].pause()
    store = await Store.open(trio.url, settings)
    await store.ping()
    await store.close()
    trio.sentinels[0].resume()


async def test_a_name_that_they_don_t_know(trio: SentinelTrio, settings: t.StoreSettings) -> None:
    with pytest.raises(StoreUnusable, match="know no primary by the name 'other'"):
        await Store.open(trio.url.replace("/orbit", "/other"), settings)


async def test_a_wrong_password_of_the_server_s(trio: SentinelTrio, settings: t.StoreSettings) -> None:
    with pytest.raises(StoreUnusable) as caught:
        await Store.open(trio.url.replace("://", "://user:wrong-password@"), settings)
    assert "refuses" in str(caught.value)
    assert "wrong-password" not in str(caught.value)


async def test_sentinels_that_want_a_password(trio: SentinelTrio, settings: t.StoreSettings) -> None:
    for one in trio.sentinels:
        await one.command("ACL", "SETUSER", "watcher", "on", ">word", "nocommands", "+sentinel|master")
    with pytest.raises(StoreUnusable, match="the Sentinels refuse the user or password"):
        await Store.open(f"{trio.url}?sentinel_username=watcher&sentinel_password=wrong", settings)
    store = await Store.open(f"{trio.url}?sentinel_username=watcher&sentinel_password=word", settings)
    await store.close()


async def test_nobody_there_and_then_somebody(trio: SentinelTrio, settings: t.StoreSettings) -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()}/orbit"
    with pytest.raises(Unavailable, match=r"no Redis at redis\+sentinel.*no Sentinel answers"):
        await Store.open(url, settings)
    primary = await trio.primary()
    primary.pause()
    said: asyncio.Queue[str] = asyncio.Queue()
    waiting = t.StoreSettings(settings.namespace, partitions=4, timeout_s=0.2)
    opening = asyncio.ensure_future(Store.open(trio.url, waiting, wait=True, say=said.put_nowait))
    assert "waiting for Redis at redis+sentinel://" in await said.get()
    primary.resume()
    store = await opening
    assert said.empty()
    await store.close()


async def test_a_primary_that_dies(trio: SentinelTrio, store: Store) -> None:
    primary = await trio.primary()
    await store.link.write("SET", store.keys.probe(0), "1")
    await trio.synced()
    for one in trio.sentinels:
        await one.command("SENTINEL", "SET", "orbit", "down-after-milliseconds", 1_000)
    primary.kill()

    async def written() -> bool:
        try:
            await store.link.write("SET", store.keys.probe(0), "2")
        except (Unavailable, OutcomeUnknown):
            return False
        return True

    await soon(written)
    assert await (await trio.replaced(primary)).command("GET", store.keys.probe(0)) == b"2"
