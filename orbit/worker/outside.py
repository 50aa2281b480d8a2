"""Work that no event loop drives: how much of it there is now. A virtual clock stands still meanwhile."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary


class Outside:
    """Counts what threads and processes do for one loop. Whoever waits for the loop isn't counted.

    Told in the loop's own thread.
    """

    def __init__(self) -> None:
        self._count = 0

    @property
    def busy(self) -> bool:
        return self._count > 0

    def begin(self) -> None:
        self._count += 1

    def end(self) -> None:
        self._count -= 1


_outside: WeakKeyDictionary[asyncio.AbstractEventLoop, Outside] = WeakKeyDictionary()


def outside(loop: asyncio.AbstractEventLoop | None = None) -> Outside:
    """That of a loop, or of the one that runs here. A thread that outlives its loop delays no other."""
    return _outside.setdefault(loop or asyncio.get_running_loop(), Outside())
