"""What waits for a client whose connection another server holds: bounded by who writes looking at `choked`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from orbit.edge.config import PAGE_BYTES, EdgeConfig
from orbit.edge.connection import CLOSE_S, OUT_BYTES, TURNS
from orbit.protocol.codecs import Codec

ROOM_BYTES = PAGE_BYTES // 2
"""While more waits than this no page of the log is added to it."""


class Outgoing:
    """Frames for one client, and how it comes to an end.

    Attributes:
        turns: How many of its followers may read the log at once.
        gone: The client isn't there any more.
    """

    def __init__(self, config: EdgeConfig, codec: Codec) -> None:
        self.codec = codec
        self.turns = asyncio.Semaphore(TURNS)
        self.gone = False
        self.closing: tuple[int, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self._stall_s = config.pulse.stall_s
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._took_at = self._loop.time()

    async def live(self, life: Coroutine[Any, Any, None], name: str) -> None:
        """Live it to its end, or until the connection is cut."""
        self.task = asyncio.create_task(life, name=name)
        try:
            await self.task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise  # not the connection is cut, but whoever waits here

    @property
    def closed(self) -> bool:
        return self.gone or self.closing is not None

    @property
    def choked(self) -> bool:
        return self._out_bytes > OUT_BYTES

    @property
    def waiting_bytes(self) -> int:
        return self._out_bytes

    def write(self, frames: bytes) -> None:
        """Whole frames."""
        if self.closed:
            return
        self._out.append(frames)
        self._out_bytes += len(frames)
        self._more.set()
        if self._out_bytes > ROOM_BYTES:
            self._room.clear()

    async def writable(self) -> None:
        """Return when the client has room for a page, or is gone."""
        await self._room.wait()

    def take_more(self) -> None:
        """There may be room for more of what the client said."""

    def close(self, code: int, reason: str = "") -> None:
        """Close once what waits is written; the connection is cut where the client doesn't take that."""
        if self.closed:
            return
        self.closing = code, reason
        self._more.set()
        self._loop.call_later(CLOSE_S, self._cut)

    def _cut(self) -> None:
        """It doesn't take the closing. Where it still has to take what was said before, `tick` judges that."""
        if self._out_bytes and not self.gone:
            self._loop.call_later(CLOSE_S, self._cut)
        elif self.task is not None:
            self.task.cancel()

    def tick(self, now: float) -> None:
        """Cut a client that has taken nothing of what waits for it for too long."""
        if not self._out_bytes:
            self._took_at = now
        elif now - self._took_at > self._stall_s and self.task is not None:
            self.task.cancel()

    # ---- for who sends it

    async def next(self) -> list[bytes]:
        """What waits, once there is something; nothing where it is to be closed."""
        await self._more.wait()
        self._more.clear()
        out, self._out = self._out, []
        return out

    @property
    def last(self) -> bool:
        """Nothing waits, and it is to be closed."""
        return self.closing is not None and not self._out

    def took(self, size: int) -> None:
        """The client took so much."""
        self._out_bytes -= size
        self._took_at = self._loop.time()
        if self._out_bytes <= ROOM_BYTES:
            self._room.set()
        if not self.choked:
            self.take_more()

    def leave(self) -> None:
        """The client is gone: whoever waits for room goes on."""
        self.gone = True
        self._out.clear()
        self._room.set()
