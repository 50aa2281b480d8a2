from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.embedded import EmbeddedServer
from orbit.store.probing import Pace
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.verify.proxy import Proxy
from tests.support.waiting import PATIENCE_S, soon

TX = TxId("transaction-0000001")
OTHER = TxId("transaction-0000002")


class Scene:
    """A subscriber behind a proxy, publishing over a store that isn't."""

    def __init__(self, store: Store, behind: Store, proxy: Proxy, pace: Pace | None = None) -> None:
        self.store = store
        self.proxy = proxy
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.on_edge: Callable[[bytes], None] = self.heard.put_nowait
        self.subscriber = Subscriber(
            behind,
            on_live=lambda tx, message: self.heard.put_nowait((tx, message.number)),
            on_wake=self.heard.put_nowait,
            on_nudge=self.heard.put_nowait,
            on_edge=lambda payload: self.on_edge(payload),
            on_gap=lambda: self.heard.put_nowait("gap"),
            pace=pace,
        )
        self.task = asyncio.ensure_future(self.subscriber.run())

    async def start(self, tx: TxId) -> None:
        await self.store.start(t.NewTransaction(tx, "Demo", 1, "default", b"{}", "d", False, 100, 60.0))

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await self.heard.get()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy.before(server.url) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: Proxy, store: Store) -> AsyncIterator[Store]:
    behind = await Store.open(proxy.url, store.settings)
    yield behind
    await behind.close()


@pytest.fixture
async def scene(store: Store, behind: Store, proxy: Proxy) -> AsyncIterator[Scene]:
    scene = Scene(store, behind, proxy)
    yield scene
    await scene.close()


async def kill_subscribers(store: Store) -> None:
    await store.link.write("CLIENT", "KILL", "TYPE", "pubsub")


async def test_watch_returns_when_redis_has_confirmed(scene: Scene) -> None:
    await scene.start(TX)
    await scene.subscriber.watch(TX)
    assert scene.subscriber.connected
    await scene.store.cancel(TX, "why")
    assert await scene.next() == (TX, 1)


async def test_what_is_not_watched_is_not_heard(scene: Scene) -> None:
    await scene.start(TX)
    await scene.start(OTHER)
    await scene.subscriber.watch(TX)
    await scene.subscriber.watch(OTHER)
    await scene.subscriber.unwatch(TX)
    await scene.subscriber.follow_edge("e1")
    await scene.store.cancel(TX, "why")
    await scene.store.cancel(OTHER, "why")
    assert await scene.next() == (OTHER, 1)
    await scene.subscriber.unwatch(TX)


async def test_the_channels_of_all_partitions_and_of_a_worker(scene: Scene) -> None:
    await scene.subscriber.follow_partitions("w1")
    spec = t.Spec("default", "Demo", 1)
    for n in range(20):
        tx = TxId(f"transaction-{n:08d}")
        partition = scene.store.partition_of(tx)
        await scene.start(tx)
        assert await scene.next() == t.ReadyWake(partition, spec)
        await scene.store.claim(partition, "w1", [spec], 1, 60_000, str(n))
        await scene.store.append(tx, t.NewMessage(b"data"))
        heard = [one for one in [await scene.next(), *drained(scene.heard)] if not isinstance(one, t.DueWake)]
        assert (heard or [await scene.next()]) == [t.OwnerNudge(tx, "message")]


def drained(queue: asyncio.Queue[Any]) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def test_an_edge_hears_its_own_probe(scene: Scene) -> None:
    await scene.subscriber.follow_edge("e1")
    await scene.store.tell_edge("e2", b"not mine")
    await scene.store.tell_edge("e1", b"probe")
    assert await scene.next() == b"probe"


async def test_a_killed_connection_is_a_gap(scene: Scene) -> None:
    await scene.start(TX)
    await scene.subscriber.watch(TX)
    await scene.subscriber.follow_edge("e1")
    await kill_subscribers(scene.store)
    assert await scene.next() == "gap"
    assert scene.subscriber.connected
    await scene.store.cancel(TX, "why")
    assert await scene.next() == (TX, 1)
    await scene.store.tell_edge("e1", b"probe")
    assert await scene.next() == b"probe"


async def test_the_first_connection_is_no_gap(scene: Scene) -> None:
    await scene.subscriber.follow_edge("e1")
    await scene.store.tell_edge("e1", b"probe")
    assert await scene.next() == b"probe"


async def test_while_redis_is_away_it_is_not_connected(scene: Scene) -> None:
    await scene.subscriber.follow_edge("e1")
    scene.proxy.refusing = True
    scene.proxy.drop_all()
    watching = asyncio.ensure_future(scene.subscriber.watch(TX))
    await soon(lambda: not scene.subscriber.connected)
    assert not watching.done()
    scene.proxy.refusing = False
    await watching
    assert await scene.next() == "gap"
    assert scene.subscriber.connected


async def test_a_link_that_went_silent_is_noticed(store: Store, behind: Store, proxy: Proxy) -> None:
    """No end of the connection is ever told: only the missing answer to a ping shows it."""
    scene = Scene(store, behind, proxy, pace=Pace(ping_s=0.05))
    await scene.subscriber.follow_edge("e1")
    connected = proxy.connected
    proxy.hold()
    await soon(lambda: not scene.subscriber.connected)
    proxy.release()
    assert await scene.next() == "gap"
    assert proxy.connected > connected
    await scene.close()


async def test_a_quiet_link_that_answers_pings_stays(store: Store, behind: Store, proxy: Proxy) -> None:
    scene = Scene(store, behind, proxy, pace=Pace(ping_s=2.0))  # so long may an answer take, too
    await scene.subscriber.follow_edge("e1")
    connected = proxy.connected
    enough = await pings(store) + 2
    while await pings(store) < enough:
        pass
    assert proxy.connected == connected
    assert scene.subscriber.connected
    await scene.close()


async def pings(store: Store) -> int:
    """How many the server has answered."""
    stats = (await store.link.read("INFO", "commandstats")).decode()
    calls = (line.partition("calls=")[2].partition(",")[0] for line in stats.splitlines() if "stat_ping:" in line)
    return sum(map(int, calls))


async def test_a_callback_that_raises_ends_the_run(scene: Scene) -> None:
    def broken(payload: bytes) -> None:
        raise ValueError("a defect")

    scene.on_edge = broken
    await scene.subscriber.follow_edge("e1")
    await scene.store.tell_edge("e1", b"x")
    with pytest.raises(ValueError, match="a defect"):
        await scene.task
    assert not scene.subscriber.connected


async def test_who_stops_waiting_for_a_watch_disturbs_nobody(scene: Scene) -> None:
    await scene.subscriber.follow_edge("e1")
    scene.proxy.hold()
    first, second = (asyncio.ensure_future(scene.subscriber.watch(TX)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    scene.proxy.release()
    await second
    assert first.cancelled() or first.cancelling()


async def test_watching_and_leaving_over_and_over_ends_as_wanted(scene: Scene) -> None:
    await scene.start(TX)
    for _ in range(50):
        await scene.subscriber.watch(TX)
        await scene.subscriber.unwatch(TX)
    await scene.subscriber.watch(TX)
    await scene.store.cancel(TX, "why")
    assert await scene.next() == (TX, 1)


# ---- deaf


QUICK = Pace(probe_s=0.05, deaf_s=0.2)


async def test_it_delivers_once_a_probe_came_back(scene: Scene) -> None:
    assert not scene.subscriber.delivers
    await scene.subscriber.watch(TX)
    async with asyncio.timeout(PATIENCE_S):
        await scene.subscriber.until_delivering()
    assert scene.subscriber.delivers


async def test_nothing_is_published_while_nothing_is_wanted(store: Store, behind: Store, proxy: Proxy) -> None:
    scene = Scene(store, behind, proxy, QUICK)
    await soon(lambda: scene.subscriber.connected)
    before = await _published(store)
    await scene.subscriber.watch(TX)
    await soon(lambda: scene.subscriber.delivers)
    assert await _published(store) > before
    await scene.subscriber.unwatch(TX)
    await soon(lambda: not scene.subscriber.delivers)
    await scene.close()


async def _published(store: Store) -> int:
    stats = (await store.link.read("INFO", "commandstats")).decode()
    return int(stats.partition("cmdstat_spublish:calls=")[2].partition(",")[0] or 0)


@pytest.mark.parametrize("up", [False, True], ids=["nothing comes", "nothing goes"])
async def test_what_is_published_and_not_heard_makes_it_new(
    store: Store, behind: Store, proxy: Proxy, up: bool
) -> None:
    """The link is open and Redis well; pings are too seldom to tell."""
    scene = Scene(store, behind, proxy, Pace(ping_s=60.0, probe_s=0.05, deaf_s=0.2))
    await scene.subscriber.watch(TX)
    await soon(lambda: scene.subscriber.delivers)
    proxy.half_open(up=up, down=True)
    await soon(lambda: not scene.subscriber.delivers)
    assert await scene.next() == "gap"
    await soon(lambda: scene.subscriber.delivers)
    assert scene.subscriber.went_deaf == 1
    await scene.start(TX)
    await scene.close()


async def test_a_subscription_at_a_server_that_nobody_publishes_to(server: EmbeddedServer, store: Store) -> None:
    """After a failover it may live on at the old primary: long before any silence tells, the new one says that nobody
    listens."""
    async with EmbeddedServer() as other, Proxy.before(other.url) as proxy:
        behind = await Store.open(proxy.url, store.settings)
        scene = Scene(store, behind, proxy, Pace(ping_s=60.0, probe_s=0.05, deaf_s=600.0))
        await scene.subscriber.watch(TX)
        await soon(lambda: scene.subscriber.delivers)
        proxy.lead_to(server.url)
        proxy.drop_commands()
        await soon(lambda: not scene.subscriber.delivers)
        assert await scene.next() == "gap"
        await soon(lambda: scene.subscriber.delivers)
        await scene.close()
        await behind.close()
