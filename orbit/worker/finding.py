"""Which partitions a worker claims from, and when: what it hears, and what nobody told it.

Each wake-up is heard by all. The first in rank claims at once and the next few a moment later. All others look, too,
but seconds later: those before them may be dead or full without anybody knowing yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from orbit.store import types as t
from orbit.worker.ranking import Ranks

_RANK_S = 0.02
"""How much later each of the keen claims."""
_KEEN = 3
"""So many behind the first are keen."""
_LATE_S = 1.0
"""How much later each rank behind those looks."""


def claim_after_s(rank: int) -> float:
    """How long after a wake-up a worker of that rank claims."""
    return rank * _RANK_S if rank <= _KEEN else (rank - _KEEN) * _LATE_S


class Finder:
    """Tells the claimer (`want`) where something may be ready for `specs`."""

    def __init__(self, ranks: Ranks, specs: Iterable[t.Spec], partitions: int, want: Callable[[int], None]) -> None:
        self._ranks = ranks
        self._specs = frozenset(specs)
        self._partitions = partitions
        self._want = want
        self._loop = asyncio.get_running_loop()
        self._later: dict[int, tuple[float, asyncio.TimerHandle]] = {}

    def heard(self, wake: t.ReadyWake) -> None:
        """Something is ready there."""
        if wake.spec not in self._specs:
            return
        after_s = claim_after_s(self._ranks.for_claim(wake.partition, wake.spec))
        at = self._loop.time() + after_s
        planned = self._later.get(wake.partition)
        if planned is not None and planned[0] <= at:
            return
        if planned is not None:
            planned[1].cancel()
        if after_s:
            self._later[wake.partition] = at, self._loop.call_later(after_s, self._look, wake.partition)
        else:
            self._look(wake.partition)

    def visit(self, partition: int) -> None:
        """The slow round passes it: what nobody was told of is found by whoever ranks first for it."""
        if self._ranks.first_for_any(partition, self._specs):
            self._want(partition)

    def visit_all(self) -> None:
        """Others live than before: what was left to one that is gone is this worker's now, where it ranks first."""
        for partition in range(self._partitions):
            self.visit(partition)

    def look_everywhere(self) -> None:
        """Anything may have been missed."""
        for partition in range(self._partitions):
            self._want(partition)

    def close(self) -> None:
        for _, planned in self._later.values():
            planned.cancel()
        self._later.clear()

    def _look(self, partition: int) -> None:
        self._later.pop(partition, None)
        self._want(partition)
