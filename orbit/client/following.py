"""Following transactions over Redis itself: the log in pages, then live, by the same merge that the edges use."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from orbit.client.backoff import Backoff
from orbit.errors import BadRequest, Gone, NotFound, Unavailable
from orbit.protocol.cursors import NEW_ONLY, Cursor, parse_cursor
from orbit.protocol.entries import ENDED, EndEntry, Entry, LiveMessage, LogPage, LogReset, UpdateEntry
from orbit.protocol.ids import TxId
from orbit.protocol.messages import ABSENT, Advance, End, Reset, Update
from orbit.protocol.replay import Batch, Feed, Tail
from orbit.protocol.values import unpack
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.store.types import Missing

Event = Update | Reset | Advance | End
"""What a follower without a session is told."""

PAGE_ENTRIES = 500
HEARD_MESSAGES = 256
"""How many commits are kept for a follower that is busy; past that it reads the log."""
LOOK_AGAIN_S = 20.0
"""A quiet log is read this often all the same: pub/sub can lose a message in silence."""


class Ear:
    """What was heard of one transaction and not yet taken, for one follower."""

    def __init__(self) -> None:
        self._heard: deque[LiveMessage] = deque()
        self._missed = False
        self._woken = asyncio.Event()

    def hear(self, message: LiveMessage) -> None:
        if len(self._heard) >= HEARD_MESSAGES:
            self.miss()
        else:
            self._heard.append(message)
            self._woken.set()

    def miss(self) -> None:
        """Something may have been lost."""
        self._heard.clear()
        self._missed = True
        self._woken.set()

    async def listen(self) -> tuple[list[LiveMessage], bool]:
        """What was heard since, and whether anything may have been missed; after `LOOK_AGAIN_S` at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._woken.wait()
        missed = self._missed or not self._woken.is_set()
        heard = list(self._heard)
        self._heard.clear()
        self._missed = False
        self._woken.clear()
        return heard, missed


class Watcher:
    """One subscription per followed transaction, however many follow it. Use as an async context manager."""

    def __init__(self, store: Store) -> None:
        self._ears: dict[TxId, set[Ear]] = {}
        self._subscriber = Subscriber(store, on_live=self._on_live, on_gap=self._on_gap)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watcher:
        self._task = asyncio.create_task(self._subscriber.run(), name="orbit broker subscriber")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @asynccontextmanager
    async def listening(self, tx: TxId) -> AsyncIterator[Ear]:
        """An ear on `tx`; nothing that is published from its first moment on is missed unsaid."""
        ear = Ear()
        self._ears.setdefault(tx, set()).add(ear)
        try:
            await self._subscriber.watch(tx)
            yield ear
        finally:
            self._ears[tx].discard(ear)
            if not self._ears[tx]:
                del self._ears[tx]
                await self._subscriber.unwatch(tx)

    def _on_live(self, tx: TxId, message: LiveMessage) -> None:
        for ear in self._ears.get(tx, ()):
            ear.hear(message)

    def _on_gap(self) -> None:
        for ears in self._ears.values():
            for ear in ears:
                ear.miss()


async def follow(store: Store, watcher: Watcher, tx: TxId, after: str) -> AsyncGenerator[Event]:
    """What the log of `tx` holds for everybody after `after`, then what is new, to the end.

    While Redis is away it waits.

    Raises:
        BadRequest: `after` is no cursor.
        NotFound: No such transaction.
        Gone: It was removed meanwhile.
    """
    start = await _place(store, tx, after)
    async with watcher.listening(tx) as ear:
        feed, tail, known = Feed(start, 0, ""), Tail(start, None), False
        feed.suspect()
        while True:
            if feed.needs_read:
                answer = await _read(store, tx, feed.begin_read())
                if isinstance(answer, Missing):
                    raise Gone("the transaction was removed") if known else NotFound("no such transaction")
                known = True
                if isinstance(answer, LogReset):
                    feed.on_reset(answer)
                    tail.on_reset(answer)
                    view = None if answer.view is None else unpack(answer.view)
                    yield Reset(tx, str(answer.cursor), answer.reason, view, 0)
                    continue
                batches = feed.on_page(answer)
                if not batches and not answer.more and answer.status in ENDED:
                    return
            else:
                heard, missed = await ear.listen()
                batches = tuple(batch for message in heard if (batch := feed.on_live(message)))
                if missed:
                    feed.suspect()
            for event in _events(tx, tail, batches):
                yield event
            if tail.ended:
                return


def _events(tx: TxId, tail: Tail, batches: tuple[Batch, ...]) -> list[Event]:
    events: list[Event] = []
    for batch in batches:
        events += [_event(tx, entry) for entry in tail.on_batch(batch) or ()]
    if (cursor := tail.take_advance()) is not None:
        events.append(Advance(tx, str(cursor)))
    return events


def _event(tx: TxId, entry: Entry) -> Event:
    cursor = str(entry.cursor)
    match entry:
        case UpdateEntry():
            return Update(tx, cursor, unpack(entry.data))
        case EndEntry():
            error = {"type": entry.error.type, "message": entry.error.message} if entry.error else None
            return End(tx, cursor, entry.status, ABSENT if entry.result is None else unpack(entry.result), error)
        case _:
            raise AssertionError("a refusal is for a session alone")


async def _place(store: Store, tx: TxId, after: str) -> Cursor:
    if after != NEW_ONLY:
        cursor = parse_cursor(after)
        if cursor is None:
            raise BadRequest("after is no cursor")
        return cursor
    found = await store.get(tx)
    if found is None:
        raise NotFound("no such transaction")
    return found.head


async def _read(store: Store, tx: TxId, after: Cursor) -> LogPage | LogReset | Missing:
    """A page of the log; while Redis is away, as soon as it is back."""
    backoff, attempt = Backoff(max_s=5.0), 0
    while True:
        try:
            return await store.read_log(tx, after, PAGE_ENTRIES)
        except Unavailable:
            await asyncio.sleep(backoff.wait_s(attempt))
            attempt += 1
