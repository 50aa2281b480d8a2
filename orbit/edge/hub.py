"""What this process watches: one subscription and one feed per transaction, however many follow it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from orbit.edge.config import Pulse
from orbit.edge.frames import Rendered
from orbit.edge.metrics import Metrics
from orbit.edge.pages import Pages
from orbit.edge.tasks import Tasks, look_at
from orbit.errors import OrbitError, Unavailable
from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import ENDED, LiveMessage, LogPage, LogReset
from orbit.protocol.ids import TxId
from orbit.protocol.replay import Batch, Feed
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.store.types import Missing

log = logging.getLogger("orbit.edge")

READS_AT_ONCE = 64
"""Feeds that read their logs at the same time."""
PAGE_ENTRIES = 500
PART_BYTES = 256 * 1024
"""How much is relayed before it is looked again who reads too slowly for more."""
EARLY_MESSAGES = 1000
RETRY_AFTER_MS = 1000
"""When to ask again, for those who asked while Redis was away."""


class Follows(Protocol):
    """Who stands where the feed stands."""

    def on_batch(self, rendered: Rendered) -> None: ...
    def on_reset(self, reset: LogReset) -> None: ...
    def on_gone(self) -> None: ...
    def on_defect(self, error: Exception) -> None: ...
    def tell_advance(self) -> bool: ...


class Watch:
    """One watched transaction. `live`: those that get what the feed relays, in the order of their coming."""

    def __init__(self, hub: Hub, tx: TxId) -> None:
        self.tx = tx
        self.users = 0
        self.gone = False
        self.live: dict[Follows, None] = {}
        self.followers: dict[Follows, None] = {}
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.feed: Feed | None = None
        self._hub = hub
        self._early: list[LiveMessage] = []
        self._reading = False
        self.changed = asyncio.Event()
        """Set, and another put in its place, when the feed has read the log, heard of an end, or is gone."""

    def begin(self, head: Cursor, number: int, status: str) -> Feed:
        """The feed; made from what was read after subscribing, if there is none yet."""
        if self.feed is None:
            self.feed = Feed(head, number, status)
            early, self._early = self._early, []
            for message in early:
                self.on_live(message)
            if len(early) == EARLY_MESSAGES:
                self.suspect()
        elif self.feed.over and status not in ENDED:
            self.suspect()  # it was retried, and that wasn't heard: its end is no end any more
        return self.feed

    def on_live(self, message: LiveMessage) -> None:
        if self.feed is None:
            if len(self._early) < EARLY_MESSAGES:
                self._early.append(message)
            return
        batch = self.feed.on_live(message)
        if batch is not None:
            self._relay(batch)
        if message.status in ENDED:
            self.wake()
        self._read_soon()

    def suspect(self) -> None:
        """Something may have been missed: read the log."""
        if self.feed is not None:
            self.feed.suspect()
            self._read_soon()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _relay(self, batch: Batch) -> None:
        self._hub.metrics.relayed.inc(len(batch.entries))
        for part in batch.slices(PART_BYTES):
            rendered = Rendered(self.tx, part)
            for follower in tuple(self.live):
                try:
                    follower.on_batch(rendered)
                except Exception as error:  # its own harm alone
                    follower.on_defect(error)

    def _read_soon(self) -> None:
        if self.feed is not None and self.feed.needs_read and not self._reading:
            self._reading = True
            self._hub.tasks.spawn(self._read(self.feed), f"reading the log of {self.tx}")

    async def _read(self, feed: Feed) -> None:
        try:
            while feed.needs_read and not self.gone:
                await self._read_page(feed)
        finally:
            self._reading = False
            self.wake()

    async def _read_page(self, feed: Feed) -> None:
        async with self._hub.reading:
            after = feed.begin_read()
            answer: LogPage | LogReset | Missing | None = None
            try:
                answer = await self._hub.store.read_log(self.tx, after, PAGE_ENTRIES)
            except OrbitError as error:
                log.debug("reading the log of %s: %s", self.tx, error)
            except Exception:
                log.exception("a defect in reading the log of %s", self.tx)
            finally:
                if answer is None:
                    feed.read_failed()
            match answer:
                case LogPage():
                    for batch in feed.on_page(answer):
                        self._relay(batch)
                    return
                case LogReset():
                    feed.on_reset(answer)
                    self._hub.pages.forget(self.tx)
                    for follower in tuple(self.live):
                        follower.on_reset(answer)
                    return
                case Missing():
                    feed.read_failed()
                    self._hub.drop(self)
                    return
        await asyncio.sleep(self._hub.pulse.retry_s)


class Hub:
    """All watched transactions of this process."""

    def __init__(
        self,
        store: Store,
        pulse: Pulse,
        metrics: Metrics,
        *,
        on_edge: Callable[[bytes], None],
        on_gap: Callable[[], None],
    ) -> None:
        self.store = store
        self.pulse = pulse
        self.metrics = metrics
        self.tasks = Tasks()
        self.reading = asyncio.Semaphore(READS_AT_ONCE)
        self.pages = Pages(self._read_page, self.tasks)
        self.subscriber = Subscriber(store, on_live=self.on_live, on_edge=on_edge, on_gap=on_gap, pace=pulse.pace)
        self._watches: dict[TxId, Watch] = {}
        self._unsubscribing: dict[TxId, asyncio.Task[None]] = {}
        self._lagging: dict[Follows, None] = {}
        self._advancing: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watches)

    def watches(self) -> Iterable[Watch]:
        return tuple(self._watches.values())

    # ---- coming and going

    async def join(self, tx: TxId) -> Watch:
        """The watch of `tx`, subscribed; to be given back with `leave`.

        Raises:
            Unavailable: Redis didn't confirm the subscription.
        """
        watch = self._watches.get(tx)
        if watch is None:
            watch = self._watches[tx] = Watch(self, tx)
            self.tasks.spawn(self._subscribe(watch), f"subscribing {tx}")
        watch.users += 1
        try:
            await asyncio.shield(watch.subscribed)
        except BaseException:
            self.leave(watch)
            raise
        return watch

    def leave(self, watch: Watch) -> None:
        watch.users -= 1
        if not watch.users:
            linger_s = self.pulse.linger_s if watch.feed is not None else 0
            asyncio.get_running_loop().call_later(linger_s, self._expire, watch)

    def drop(self, watch: Watch) -> None:
        """The transaction is no more."""
        if watch.gone:
            return
        watch.gone = True
        self._forget(watch)
        for follower in tuple(watch.followers):
            follower.on_gone()
        watch.wake()

    def _expire(self, watch: Watch) -> None:
        if not watch.users:
            self._forget(watch)

    def _forget(self, watch: Watch) -> None:
        if self._watches.get(watch.tx) is watch:
            del self._watches[watch.tx]
            if not self.tasks.closed:
                work = self.tasks.spawn(self._unsubscribe(watch.tx), f"unsubscribing {watch.tx}")
                self._unsubscribing[watch.tx] = work

    async def _subscribe(self, watch: Watch) -> None:
        watch.subscribed.add_done_callback(look_at)  # it may be that nobody waits any more
        try:
            if (before := self._unsubscribing.get(watch.tx)) is not None:
                await asyncio.wait([before])
            async with asyncio.timeout(self.store.settings.timeout_s):
                await self.subscriber.watch(watch.tx)
        except (OrbitError, TimeoutError) as error:
            self._forget(watch)
            log.debug("subscribing %s: %s", watch.tx, error)
            watch.subscribed.set_exception(Unavailable("Redis can't be reached now", retry_after_ms=RETRY_AFTER_MS))
        else:
            watch.subscribed.set_result(None)
        finally:
            if not watch.subscribed.done():
                watch.subscribed.cancel()

    async def _unsubscribe(self, tx: TxId) -> None:
        try:
            async with asyncio.timeout(self.store.settings.timeout_s):
                await self.subscriber.unwatch(tx)
        except (OrbitError, TimeoutError) as error:
            log.debug("unsubscribing %s: %s", tx, error)
        finally:
            del self._unsubscribing[tx]

    # ---- what is heard

    def on_live(self, tx: TxId, message: LiveMessage) -> None:
        watch = self._watches.get(tx)
        if watch is None:
            return
        try:
            watch.on_live(message)
        except Exception:  # it harms no other transaction, and the log has what it was about
            log.exception("a defect in relaying %s", tx)
            self.metrics.defects.inc()
            watch.suspect()

    def on_gap(self) -> None:
        """Anything may have been missed."""
        self.pages.clear()
        for watch in self.watches():
            watch.suspect()

    async def _read_page(self, tx: TxId, after: Cursor) -> LogPage | LogReset | Missing:
        self.metrics.pages.inc()
        return await self.store.read_log(tx, after, PAGE_ENTRIES)

    # ---- cursors of those that get nothing

    def advance_soon(self, follower: Follows) -> None:
        """Tell `follower` its place before long, unless it is told something else meanwhile."""
        self._lagging[follower] = None
        if self._advancing is None:
            self._advancing = asyncio.get_running_loop().call_later(self.pulse.advance_s, self._advance)

    def advance_no_more(self, follower: Follows) -> None:
        self._lagging.pop(follower, None)

    def _advance(self) -> None:
        self._advancing = None
        lagging, self._lagging = self._lagging, {}
        for follower in lagging:
            if not follower.tell_advance():
                self.advance_soon(follower)
