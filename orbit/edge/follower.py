"""One attachment's stream: live while it keeps up, else read from the log as fast as its client takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from orbit.edge.frames import Rendered, frame, message_frame
from orbit.edge.hub import Hub, Watch
from orbit.edge.pages import Page
from orbit.errors import OrbitError
from orbit.protocol.codecs import Codec
from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import Entry, LogPage, LogReset
from orbit.protocol.ids import Epoch, PublicName
from orbit.protocol.messages import Advance, EdgeMessage
from orbit.protocol.replay import Feed, Tail
from orbit.store.types import Missing

NOWHERE = Cursor(10**15, Epoch("0" * 19))
"""A place that no log holds: reading from there gives a reset."""


class Sink(Protocol):
    """Where a follower's frames go."""

    codec: Codec

    @property
    def choked(self) -> bool:
        """More waits for the client than it should: give it nothing that can be read later."""

    @property
    def turns(self) -> asyncio.Semaphore:
        """How many of its followers may read the log at once."""

    def write(self, frames: bytes) -> None: ...
    async def writable(self) -> None: ...


class Listener(Protocol):
    """Who is told what happens to a follower."""

    def on_end(self) -> None: ...
    def on_gone(self) -> None: ...
    def on_defect(self, error: Exception) -> None: ...
    async def at_rest(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the session's last mid, asked anew while none of its messages is under way.

        Not where it isn't attached any more.
        """


class Follower:
    """Tells one client one transaction's entries, from a cursor on."""

    def __init__(
        self, hub: Hub, watch: Watch, feed: Feed, sink: Sink, listener: Listener, position: Cursor, session: PublicName
    ) -> None:
        self.tail = Tail(position, session)
        self._hub = hub
        self._watch = watch
        self._feed = feed
        self._sink = sink
        self._listener = listener
        self._stopped = False
        self._distrusted = False
        self._task: asyncio.Task[None] | None = None

    # ---- life

    def start(self, first: Page | None) -> None:
        """Go on from its position; `first`: a page that was read from there."""
        self._watch.followers[self] = None
        if first is not None:
            self._tell_page(first)
        if not self._stopped and not self._join():
            self._catch_up()

    def stop(self) -> None:
        self._stopped = True
        self._watch.live.pop(self, None)
        self._watch.followers.pop(self, None)
        self._hub.advance_no_more(self)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # ---- live

    def on_batch(self, rendered: Rendered) -> None:
        if self._sink.choked:
            self._hub.metrics.cut.inc()
            self._catch_up()
            return
        told = self.tail.on_batch(rendered.batch)
        if told is None:
            self._catch_up()
        else:
            self._tell(told, rendered)

    def on_reset(self, reset: LogReset) -> None:
        if self.tail.lags:
            self.tail.step_back()  # what it was told may stand still: the log says
            self._catch_up()
        else:
            self._catch_up(reset)

    def on_gone(self) -> None:
        self._listener.on_gone()

    def on_defect(self, error: Exception) -> None:
        self._listener.on_defect(error)

    def tell_advance(self) -> bool:
        """Move the client's cursor past what isn't for it. False: not now."""
        if self._sink.choked:
            return False
        cursor = self.tail.take_advance()
        if cursor is not None:
            self._sink.write(message_frame(Advance(self._watch.tx, str(cursor)), self._sink.codec))
        return True

    def _tell(self, told: tuple[Entry, ...], rendered: Rendered) -> None:
        if told:
            self._sink.write(rendered.frames(told, self._sink.codec))
        if self.tail.ended:
            self._listener.on_end()
        elif self.tail.lags:
            self._hub.advance_soon(self)

    def _join(self) -> bool:
        """Become live, if the feed knows the way from here."""
        batch = self._feed.since(self.tail.position)
        if batch is None or self._distrusted:
            return False
        told = self.tail.on_batch(batch)
        assert told is not None
        self._watch.live[self] = None
        self._tell(told, Rendered(self._watch.tx, batch))
        return True

    # ---- from the log

    def restart(self) -> None:
        """Redis lost something of this session, if not of the log: the client is to be told a reset, come what may."""
        self._distrusted = True
        if self._task is None or self._task.done():
            self._catch_up()

    def _catch_up(self, reset: LogReset | None = None) -> None:
        self._watch.live.pop(self, None)
        self._task = self._hub.tasks.spawn(self._read(reset), f"catching up on {self._watch.tx}")

    async def _read(self, reset: LogReset | None) -> None:
        try:
            if reset is not None:
                await self._reset(reset)
            while not self._stopped and not await self._step():
                pass
        except Exception as error:
            self.on_defect(error)

    async def _step(self) -> bool:
        """One page, written as soon as the client has room for it. True: it is live, or stopped."""
        try:
            async with self._sink.turns:
                await self._sink.writable()
                if self._stopped or self._join():
                    return True
                answer = await self._read_page()
        except OrbitError:
            await asyncio.sleep(self._hub.pulse.retry_s)
            return False
        if isinstance(answer, LogReset):
            await self._reset(answer)
        if self._stopped or self._join():
            return True
        if isinstance(answer, LogPage) and not answer.more:
            changed = self._watch.changed
            self._watch.suspect()
            await changed.wait()
        return False

    async def _read_page(self) -> LogPage | LogReset | Missing:
        position = NOWHERE if self._distrusted else self.tail.position
        page = await self._hub.pages.get(self._watch.tx, position)
        match page.answer:
            case LogPage() if not self._stopped:
                self._tell_page(page)
            case LogReset() if self._distrusted:
                return replace(page.answer, reason="rewound")
            case Missing():
                self._hub.drop(self._watch)
        return page.answer

    def _tell_page(self, page: Page) -> None:
        if isinstance(page.answer, LogPage) and page.rendered is not None:
            self._tell(self.tail.on_page(page.answer), page.rendered)

    async def _reset(self, reset: LogReset) -> None:
        """Tell a reset, with the session's last mid as the store has it now."""

        def tell(last_mid: int) -> None:
            if not self._stopped:
                self.tell_reset(reset, last_mid)

        while not self._stopped:
            try:
                await self._listener.at_rest(tell)
            except OrbitError:
                await asyncio.sleep(self._hub.pulse.retry_s)
                continue
            return

    def tell_reset(self, reset: LogReset, last_mid: int, *, after: EdgeMessage | None = None) -> None:
        """Tell a reset; what follows its cursor comes next.

        Args:
            after: What is told before it, in the same frame: the client hears both or none.
        """
        self._distrusted = False
        self.tail.on_reset(reset)
        self._hub.metrics.resets.labels(reset.reason).inc()
        codec = self._sink.codec
        payload = codec.encode_reset(self._watch.tx, str(reset.cursor), reset.reason, reset.view, last_mid)
        if after is not None:
            payload = codec.together((codec.encode(after), payload))
        self._sink.write(frame(payload, text=codec.text))
