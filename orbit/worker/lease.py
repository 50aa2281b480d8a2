"""One lease, as the event loop and the renewing thread both see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orbit.protocol.ids import Epoch, TxId
from orbit.store.types import Held

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def _system_s() -> float:
    return time.clock_gettime(_BOOT) if _BOOT is not None else time.monotonic()


_clock: Callable[[], float] = _system_s


def now_s() -> float:
    """Monotonic seconds that go on while the machine is suspended, where the system has such a clock."""
    return _clock()


@contextmanager
def clock(now: Callable[[], float]) -> Iterator[None]:
    """While the block runs, `now_s` tells what `now` does, in the whole process (virtual time)."""
    global _clock
    before, _clock = _clock, now
    try:
        yield
    finally:
        _clock = before


def margin_s(lease_s: float) -> float:
    """How far our own deadline is ahead of the server's."""
    return max(0.1 * lease_s, min(0.5, 0.25 * lease_s))


def own_deadline_s(asked_s: float, lease_s: float) -> float:
    """Until when the holder may begin turns: well ahead of the server's expiry, counted from before it asked."""
    return asked_s + lease_s - margin_s(lease_s)


class Lease:
    """What is held under one epoch, up to a deadline of our own, ahead of the server's.

    Attributes:
        number: The last commit that is known of.
        settling: A commit is under way, so `number` may be the one before.
    """

    def __init__(self, tx: TxId, epoch: Epoch, number: int, deadline_s: float) -> None:
        self.tx = tx
        self.epoch = epoch
        self.number = number
        self.settling = False
        self.deadline_s = deadline_s
        self.waiting = False
        self._loop = asyncio.get_running_loop()
        self._restored = asyncio.Event()
        self._given_up = False

    @property
    def held(self) -> Held:
        return Held(self.tx, self.epoch, self.number)

    @property
    def lapsed(self) -> bool:
        return now_s() > self.deadline_s

    def extend(self, deadline_s: float) -> None:
        """A commit or a renewal was confirmed. Any thread."""
        self.deadline_s = max(self.deadline_s, deadline_s)
        if self.waiting:
            self._loop.call_soon_threadsafe(self._restored.set)

    def give_up(self) -> None:
        """Let those go on who wait for it to be confirmed: they are to end. The loop's thread."""
        self._given_up = True
        self._restored.set()

    async def confirmed(self) -> None:
        """Return while it is held by our own clock; wait for a renewal otherwise."""
        while self.lapsed and not self._given_up:
            self.waiting = True
            self._restored.clear()
            if self.lapsed:
                await self._restored.wait()
        self.waiting = False
