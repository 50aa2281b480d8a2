"""Work that no event loop drives: how much of it there is now. A virtual clock stands still meanwhile."""

from __future__ import annotations

import threading


class Outside:
    """Counts what threads and processes do for this process's loops. Whoever waits for the loop isn't counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @property
    def busy(self) -> bool:
        return self._count > 0

    def begin(self) -> None:
        with self._lock:
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1


OUTSIDE = Outside()
