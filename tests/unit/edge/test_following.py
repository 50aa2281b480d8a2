"""One process's watching: a hub, its feeds and its followers, over a log that the test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgpack
import pytest

from orbit.edge.config import Pulse
from orbit.edge.follower import NOWHERE, Follower
from orbit.edge.hub import Hub, Watch
from orbit.edge.metrics import Metrics
from orbit.edge.recent import Recent
from orbit.edge.tasks import look_at
from orbit.errors import Unavailable
from orbit.protocol.codecs import JSON
from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import ENDED, EndEntry, Entry, LiveMessage, LogPage, LogReset, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Epoch, PublicName, TxId
from orbit.store.address import connector
from orbit.store.link import Link
from orbit.store.store import Store
from orbit.store.types import Missing, StoreSettings

TX = TxId("t" * 16)
ME, OTHER = PublicName("me"), PublicName("other")
QUICK = Pulse(linger_s=0.01, advance_s=0.0, retry_s=0.0)


class FakeStore:
    """One log. What it tells live, the test hands to the hub or loses."""

    settings = StoreSettings(timeout_s=0.05)
    link = Link(connector("redis://nowhere.invalid", 0.05), 0.05)

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.trimmed = START
        self.number = 0
        self.status = "running"
        self.epoch = Epoch(f"{1:019d}")
        self.away = False
        self.missing = False
        self.reads: list[Cursor] = []
        self.held: asyncio.Event | None = None
        self.broken: Exception | None = None
        self._read = asyncio.Event()

    async def until_read(self, times: int) -> None:
        while len(self.reads) < times:
            self._read.clear()
            await self._read.wait()

    @property
    def head(self) -> Cursor:
        return self.entries[-1].cursor if self.entries else self.trimmed

    def commit(self, *new: Entry, status: str = "running") -> LiveMessage:
        before, number = self.head, self.number
        placed = tuple(
            replace(entry, cursor=Cursor(before.seq + n, self.epoch)) for n, entry in enumerate(new, 1)
        )
        self.entries += placed
        self.number, self.status = number + 1, status
        return LiveMessage(self.number, self.epoch, number, before, placed, self.head, status)

    def update(self, data: Any = None, session: PublicName | None = None) -> LiveMessage:
        return self.commit(UpdateEntry(START, msgpack.packb(data), session))

    def rewind(self, keep: int) -> None:
        self.entries = self.entries[:keep]
        self.number = keep
        self.epoch = Epoch(f"{int(self.epoch) + 1:019d}")

    async def read_log(self, tx: TxId, after: Cursor, limit: int) -> LogPage | LogReset | Missing:
        self.reads.append(after)
        self._read.set()
        if self.held is not None:
            await self.held.wait()
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        if self.away:
            raise Unavailable("away")
        if self.missing:
            return Missing()
        places = [self.trimmed, *(entry.cursor for entry in self.entries)]
        if after not in places:
            reason = "trimmed" if after.seq < self.trimmed.seq else "rewound"
            return LogReset(self.trimmed, reason, msgpack.packb("view"), self.number, self.head, self.status)
        rest = self.entries[places.index(after) :]
        return LogPage(tuple(rest[:limit]), self.number, self.head, self.status, len(rest) > limit)

    def partition_of(self, tx: TxId) -> int:
        return 0

    async def changed_since(self, partition: int, since_ms: int) -> tuple[int, dict[TxId, int]]:
        return 1_000_000, {TX: self.number} if since_ms < 1_000_000 else {}


class FakeSubscriber:
    def __init__(self) -> None:
        self.watched: list[TxId] = []
        self.left = asyncio.Event()
        self.deaf = False
        self.connected = True

    async def watch(self, tx: TxId) -> None:
        if self.deaf:
            await asyncio.Event().wait()
        self.watched.append(tx)

    async def unwatch(self, tx: TxId) -> None:
        self.left.set()


class Client:
    """The sink and the listener of one follower: it remembers what it was told."""

    codec = JSON

    def __init__(self, last_mid: int | None = 0) -> None:
        self.told: list[dict[str, Any]] = []
        self.choked = False
        self.turns = asyncio.Semaphore(4)
        self.over: list[str] = []
        self.last_mid = last_mid
        self.follower: Follower | None = None
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self.broken = False

    def write(self, frames: bytes) -> None:
        if self.broken:
            raise RuntimeError("a defect")
        while frames:
            size, skip = frames[1], 2
            if size == 126:
                size, skip = int.from_bytes(frames[2:4]), 4
            self.told.append(json.loads(frames[skip : skip + size]))
            frames = frames[skip + size :]
        self._news.set()

    async def writable(self) -> None:
        while self.choked:
            self._room.clear()
            await self._room.wait()

    def choke(self) -> None:
        self.choked = True

    def drain(self) -> None:
        self.choked = False
        self._room.set()

    def on_end(self) -> None:
        self._stop("end")

    def on_gone(self) -> None:
        self._stop("gone")

    def on_defect(self, error: Exception) -> None:
        self._stop("defect")

    def _stop(self, why: str) -> None:
        self.over.append(why)
        if self.follower is not None:
            self.follower.stop()
        self._news.set()

    async def at_rest(self, tell: Callable[[int], None]) -> None:
        if self.last_mid is not None:
            tell(self.last_mid)

    async def until(self, count: int) -> list[dict[str, Any]]:
        """What it was told, once that are so many messages; they are forgotten."""
        while len(self.told) < count and not self.over:
            self._news.clear()
            await self._news.wait()
        told, self.told = self.told[:count], self.told[count:]
        return told

    async def updates(self, count: int) -> list[Any]:
        return [message["data"] for message in await self.until(count)]


class Bench:
    """A hub over a fake store."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.hub = Hub(
            cast(Store, self.store), QUICK, Metrics(), on_edge=lambda payload: None, on_gap=lambda: None
        )
        self.subscriber = FakeSubscriber()
        self.hub.subscriber = cast(Any, self.subscriber)

    async def watch(self) -> Watch:
        watch = await self.hub.join(TX)
        watch.begin(self.store.head, self.store.number, self.store.status)
        return watch

    async def follow(self, after: Cursor = START, session: PublicName = ME, **about: Any) -> Client:
        watch, client = await self.watch(), Client(**about)
        assert watch.feed is not None
        client.follower = Follower(self.hub, watch, watch.feed, client, client, after, session)
        client.follower.start(None)
        return client

    def hear(self, message: LiveMessage) -> None:
        self.hub.on_live(TX, message)


@pytest.fixture
async def bench() -> Any:
    bench = Bench()
    yield bench
    await bench.hub.tasks.cancel()


async def breathe() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# ---- live and from the log


async def test_a_follower_reads_the_log_and_then_hears(bench: Bench) -> None:
    for n in range(5):
        bench.store.update(n)
    client = await bench.follow()
    assert await client.updates(5) == [0, 1, 2, 3, 4]
    bench.hear(bench.store.update(5))
    assert await client.updates(1) == [5]
    assert bench.store.reads == [START]


async def test_a_follower_at_the_head_reads_nothing(bench: Bench) -> None:
    bench.store.update(0)
    client = await bench.follow(bench.store.head)
    bench.hear(bench.store.update(1))
    assert await client.updates(1) == [1]
    assert bench.store.reads == []


async def test_a_lost_live_message_is_found_by_the_next(bench: Bench) -> None:
    client = await bench.follow()
    bench.store.update(0)
    bench.hear(bench.store.update(1))
    assert await client.updates(2) == [0, 1]


async def test_what_is_heard_while_the_log_is_read_comes_after_it(bench: Bench) -> None:
    client = await bench.follow()
    bench.store.held = asyncio.Event()
    bench.store.update(0)
    bench.hear(bench.store.update(1))
    await breathe()
    bench.store.held.set()
    bench.hear(bench.store.update(2))
    bench.hear(bench.store.update(3))
    assert await client.updates(4) == [0, 1, 2, 3]


async def test_a_lost_last_message_is_found_by_the_recent_set(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbit.edge.recent.PATIENCE_S", 0.0)
    client = await bench.follow()
    bench.store.update(0)
    await Recent(bench.hub).look()
    assert await client.updates(1) == [0]


async def test_a_message_that_is_merely_late_costs_no_reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbit.edge.recent.PATIENCE_S", 0.01)
    client = await bench.follow()
    message = bench.store.update(0)
    await Recent(bench.hub).look()
    patient = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, patient.set)  # after the one that looks whether it came
    bench.hear(message)
    assert await client.updates(1) == [0]
    await patient.wait()
    assert bench.store.reads == []


async def test_a_rewind_that_nobody_announced_is_found_by_the_recent_set(bench: Bench) -> None:
    client = await bench.follow()
    for n in range(3):
        bench.hear(bench.store.update(n))
    await client.until(3)
    bench.store.rewind(1)
    await Recent(bench.hub).look()
    [reset] = await client.until(1)
    assert (reset["type"], reset["reason"], reset["view"], reset["last_mid"]) == ("reset", "rewound", "view", 0)


async def test_a_slow_client_is_cut_and_served_from_the_log(bench: Bench) -> None:
    slow, quick = await bench.follow(), await bench.follow()
    bench.hear(bench.store.update(0))
    slow.choke()
    for n in range(1, 1000):
        bench.hear(bench.store.update(n))
    assert await quick.updates(1000) == list(range(1000))
    assert await slow.updates(1) == [0]
    assert slow.told == []
    slow.drain()
    assert await slow.updates(999) == list(range(1, 1000))
    bench.hear(bench.store.update(1000))
    assert await slow.updates(1) == [1000]


async def test_an_unfinished_live_message_is_read(bench: Bench) -> None:
    client = await bench.follow()
    bench.hear(replace(bench.store.update(0), entries=()))
    assert await client.updates(1) == [0]


async def test_redis_away_while_the_log_is_needed(bench: Bench) -> None:
    bench.store.update(0)
    bench.store.away = True
    client = await bench.follow()
    await bench.store.until_read(3)
    assert client.told == []
    bench.store.away = False
    assert await client.updates(1) == [0]


async def test_a_defect_in_reading_for_the_feed_is_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    client = await bench.follow()
    bench.store.broken = RuntimeError("a defect")
    bench.store.update(0)
    bench.hear(bench.store.update(1))
    assert await client.updates(2) == [0, 1]
    assert "a defect in reading the log" in caplog.text


async def test_a_defect_of_one_follower_harms_no_other(bench: Bench) -> None:
    broken, sound = await bench.follow(), await bench.follow()
    broken.broken = True
    bench.hear(bench.store.update(0))
    assert await sound.updates(1) == [0]
    assert broken.over == ["defect"]


# ---- what is for others


async def test_what_is_for_others_moves_the_cursor_alone(bench: Bench) -> None:
    mine, theirs = await bench.follow(session=ME), await bench.follow(session=OTHER)
    for n in range(3):
        bench.hear(bench.store.update(n, session=OTHER))
    bench.hear(bench.store.commit(RefusalEntry(START, OTHER, 1, "state_error", "no")))
    told = await theirs.until(4)
    assert [message["type"] for message in told] == ["update", "update", "update", "rejected"]
    assert await mine.until(1) == [{"type": "advance", "tx": TX, "cursor": str(bench.store.head)}]
    await breathe()
    assert mine.told == theirs.told == []


async def test_no_advance_where_something_follows_at_once(bench: Bench) -> None:
    client = await bench.follow(session=ME)
    bench.hear(bench.store.update(0, session=OTHER))
    bench.hear(bench.store.update(1))
    assert await client.updates(1) == [1]
    await breathe()
    assert client.told == []


async def test_a_choked_client_is_told_its_place_later(bench: Bench) -> None:
    client = await bench.follow(session=ME)
    bench.hear(bench.store.update(0, session=OTHER))
    client.choke()
    await breathe()
    assert client.told == []
    client.drain()
    [advance] = await client.until(1)
    assert advance["type"] == "advance"


# ---- ends


async def test_an_end_is_told_once_and_stops_the_following(bench: Bench) -> None:
    client = await bench.follow()
    bench.hear(bench.store.commit(UpdateEntry(START, msgpack.packb(0)), EndEntry(START, "finished"), status="finished"))
    assert [message["type"] for message in await client.until(2)] == ["update", "end"]
    assert client.over == ["end"]


async def test_an_end_that_a_retry_undid_is_passed_by(bench: Bench) -> None:
    bench.store.update(0)
    bench.store.commit(EndEntry(START, "failed"), status="failed")
    bench.store.commit(status="pending")
    client = await bench.follow()
    assert await client.updates(1) == [0]
    assert await client.until(1) == [{"type": "advance", "tx": TX, "cursor": str(bench.store.head)}]
    bench.hear(bench.store.update(1))
    assert await client.updates(1) == [1]
    assert client.over == []


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_an_end_is_found_in_the_log(bench: Bench, status: str) -> None:
    bench.store.commit(EndEntry(START, status), status=status)
    client = await bench.follow()
    [end] = await client.until(1)
    assert (end["type"], end["status"]) == ("end", status)


# ---- resets


async def test_a_rewind_is_told_before_anything_else(bench: Bench) -> None:
    client = await bench.follow(last_mid=7)
    for n in range(3):
        bench.hear(bench.store.update(n))
    await client.until(3)
    bench.store.rewind(1)
    bench.hear(bench.store.update("after"))
    reset, *after = await client.until(3)
    assert (reset["type"], reset["reason"], reset["last_mid"], reset["cursor"]) == ("reset", "rewound", 7, "0")
    assert [message["data"] for message in after] == [0, "after"]


async def test_only_those_that_saw_what_was_lost_are_reset(bench: Bench) -> None:
    slow, quick = await bench.follow(), await bench.follow()
    bench.hear(bench.store.update(0))
    slow.choke()
    for n in range(1, 3):
        bench.hear(bench.store.update(n))
    await quick.until(3)
    await slow.until(1)
    bench.store.rewind(1)
    bench.hear(bench.store.update("after"))
    slow.drain()
    assert [message["type"] for message in await quick.until(3)] == ["reset", "update", "update"]
    assert await slow.updates(1) == ["after"]


async def test_who_was_told_nothing_of_what_was_lost_is_not_reset(bench: Bench) -> None:
    """What is lost was for another session, and this one's cursor hadn't been moved past it yet."""
    bench.hub.pulse = replace(QUICK, advance_s=60.0)
    client, other = await bench.follow(), await bench.follow(session=OTHER)
    bench.hear(bench.store.update("for all"))
    bench.hear(bench.store.update("for the other", OTHER))
    assert await client.updates(1) == ["for all"]
    assert await other.updates(2) == ["for all", "for the other"]
    bench.store.rewind(1)
    bench.hear(bench.store.update("after"))
    assert await client.updates(1) == ["after"]
    assert [message["type"] for message in await other.until(3)] == ["reset", "update", "update"]


async def test_a_reset_for_a_session_that_is_attached_no_more_is_not_told(bench: Bench) -> None:
    client = await bench.follow(last_mid=None)
    bench.hear(bench.store.update(0))
    await client.until(1)
    client.follower.stop()  # type: ignore[union-attr]
    bench.store.rewind(0)
    bench.hear(bench.store.update("after"))
    await breathe()
    assert client.told == []


async def test_a_session_whose_messages_were_lost_is_reset_though_its_cursor_holds(bench: Bench) -> None:
    client = await bench.follow(last_mid=3)
    bench.hear(bench.store.update(0))
    await client.until(1)
    assert client.follower is not None
    client.follower.restart()
    reset, update = await client.until(2)
    assert (reset["type"], reset["reason"], reset["last_mid"]) == ("reset", "rewound", 3)
    assert update["data"] == 0
    assert NOWHERE in bench.store.reads
    bench.hear(bench.store.update(1))
    assert await client.updates(1) == [1]


# ---- coming and going


async def test_one_subscription_however_many_follow(bench: Bench) -> None:
    clients = [await bench.follow() for _ in range(3)]
    assert bench.subscriber.watched == [TX]
    assert len(bench.hub) == 1
    for client in clients:
        assert client.follower is not None
        client.follower.stop()


async def test_a_subscription_lingers_and_then_goes(bench: Bench) -> None:
    watch = await bench.watch()
    bench.hub.leave(watch)
    assert await bench.watch() is watch
    bench.hub.leave(watch)
    await bench.subscriber.left.wait()
    assert len(bench.hub) == 0
    assert await bench.watch() is not watch


async def test_a_subscription_that_redis_does_not_confirm(bench: Bench) -> None:
    bench.subscriber.deaf = True
    with pytest.raises(Unavailable):
        await bench.hub.join(TX)
    bench.subscriber.deaf = False
    assert await bench.watch()


async def test_removed_while_it_is_watched(bench: Bench) -> None:
    client = await bench.follow()
    bench.store.missing = True
    bench.hub.on_gap()
    await client.until(1)
    assert client.over == ["gone"]
    assert len(bench.hub) == 0


async def test_an_end_is_not_told_once_a_retry_has_undone_it_even_if_that_was_not_heard(bench: Bench) -> None:
    """One client has seen the end; the live message of the retry is lost; another client attaches."""
    bench.store.update(0)
    bench.store.commit(EndEntry(START, "failed"), status="failed")
    first = await bench.follow()
    await first.until(2)
    bench.store.commit(status="pending")
    second = await bench.follow()
    assert [message["type"] for message in (await second.until(2))[:2]] == ["update", "advance"]
    bench.hear(bench.store.update(1))
    assert await second.updates(1) == [1]


async def test_what_is_heard_before_the_feed_begins(bench: Bench) -> None:
    watch = await bench.hub.join(TX)
    bench.hear(bench.store.update(0))
    feed = watch.begin(START, 0, "running")
    assert feed.head == bench.store.head


async def test_a_subscription_that_is_cancelled_while_it_is_made_is_no_defect() -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    subscribed: asyncio.Future[None] = loop.create_future()
    subscribed.add_done_callback(look_at)
    subscribed.cancel()
    await breathe()
    assert told == []
