"""Who is let in when there is too much to do: an edge says `overloaded` before it falls over.

Those that are in are served; those that come are told when to come again, each another time, so that they don't come
back as one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orbit.errors import Overloaded

RESERVED_FILES = 128
"""Open files that are kept for what isn't a client: Redis, logs, keys, and connections that say nothing yet."""
AGAIN_MS = 500, 2500
LOOK_S = 0.1
SHED_S = 1.0
"""Who comes is turned away for so long after the loop was late."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one edge takes on; 0: any number."""

    connections: int = 0
    """Clients' connections; 0: as many as this process may have open files."""
    attaching: int = 1_000
    """Attaches that are under way at once."""
    lag_s: float = 1.0
    """So late twice in a row, and the event loop has too much to do; 0: it may be as late as it likes."""


class Admission:
    """What an edge takes on.

    Attributes:
        connections: How many clients' connections there may be.
        sockets: How many with those that haven't said what they want; more couldn't even be answered.
        attaching: How many attaches are under way.
        lag_s: How late the event loop was just now.
        refused: How often someone was turned away.
    """

    def __init__(self, capacity: Capacity, draw: Callable[[int, int], int] = random.randint) -> None:
        self.capacity = capacity
        files = allowed_files()
        self.connections = capacity.connections or files - RESERVED_FILES
        self.sockets = files - RESERVED_FILES // 2
        self.attaching = 0
        self.lag_s = 0.0
        self.refused = 0
        self._late = 0
        self._shed_until = 0.0
        self._draw = draw

    # ---- judging

    def newcomer(self, connections: int, now: float) -> None:
        """Let one more in, beside so many connections.

        Raises:
            Overloaded: Not now; it says when to come again.
        """
        if connections >= self.connections:
            raise self._refusal("as many connections as there may be are open")
        self.work(now)

    def work(self, now: float) -> None:
        """Let someone begin what isn't begun yet.

        Raises:
            Overloaded: Not now; it says when to come again.
        """
        if now < self._shed_until:
            raise self._refusal("the edge has too much to do")
        if self.capacity.attaching and self.attaching >= self.capacity.attaching:
            raise self._refusal("as many attaches as may be are under way")

    @contextmanager
    def attach(self, now: float) -> Iterator[None]:
        """While an attach is under way.

        Raises:
            Overloaded: Not now; it says when to come again.
        """
        self.work(now)
        self.attaching += 1
        try:
            yield
        finally:
            self.attaching -= 1

    def note_lag(self, late_s: float, now: float) -> None:
        """The loop was so late for what was due."""
        self.lag_s = late_s
        self._late = self._late + 1 if self.capacity.lag_s and late_s >= self.capacity.lag_s else 0
        if self._late >= 2:
            self._shed_until = now + SHED_S

    def _refusal(self, text: str) -> Overloaded:
        self.refused += 1
        return Overloaded(text, retry_after_ms=self._draw(*AGAIN_MS))

    # ---- its task

    async def watch(self) -> None:
        """Look how late the loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self.note_lag(loop.time() - due, loop.time())


def allowed_files() -> int:
    """How many open files this process may have; it takes what it may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1_000_000
