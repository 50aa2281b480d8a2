"""Looking after partitions: expired leases, wake times, schedules, permits, what is undelivered or past its retention.

A partition says to all when it next needs `due`. The one that ranks first for it calls it then, which is heard, too.
The others would a little later, each the later the further behind: where one is dead, the next does it.
Each partition is also visited now and then, whatever was said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.store import Store
from orbit.worker.delivery import parent_has_taken
from orbit.worker.firing import fire
from orbit.worker.permits import tell
from orbit.worker.ranking import Ranks
from orbit.worker.settling import BROKEN

log = structlog.get_logger("orbit.worker")

_BEHIND_S = 0.4
"""How much later each of those behind the first acts."""
_BEHIND_MOST_S = 10.0
_AGAIN_S = 1.0
_LEAST_S = 0.01
_ROUND_S = 120.0
_SLICE_S = 5.0


class Caretaker:
    """Calls `due` when a partition needs it, and does what that leaves to its caller.

    `visited` is told each partition as the slow round passes it; `deliver` whose outbox holds something.
    """

    def __init__(
        self, store: Store, ranks: Ranks, visited: Callable[[int], None], deliver: Callable[[TxId], None]
    ) -> None:
        self._store = store
        self._ranks = ranks
        self._visited = visited
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._at: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0  # uvloop's handles don't always know
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def needed(self, partition: int, in_ms: int) -> None:
        """The partition needs `due` in so many ms, at the latest."""
        at = self._when(partition, in_ms)
        if at < self._at.get(partition, float("inf")):
            self._keep(partition, at)

    def heard(self, wake: t.DueWake) -> None:
        """The partition said when it needs `due` next: what was planned before is out of date, or done by another."""
        self._keep(wake.partition, self._when(wake.partition, wake.in_ms))

    def look(self, partitions: Iterable[int]) -> None:
        """Ask these when they need it."""
        for partition in partitions:
            self.needed(partition, 0)

    async def rounds(self) -> None:
        """Pass over all partitions, slowly, for ever."""
        place = 0
        while True:
            await asyncio.sleep(_SLICE_S)
            share = max(1, round(self._store.partitions * _SLICE_S / _ROUND_S))
            for partition in (at % self._store.partitions for at in range(place, place + share)):
                if self._ranks.for_care(partition) == 0:
                    self.needed(partition, 0)
                self._visited(partition)
            place = (place + share) % self._store.partitions

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _when(self, partition: int, in_ms: int) -> float:
        behind_s = min(_BEHIND_MOST_S, self._ranks.for_care(partition) * _BEHIND_S)
        return self._loop.time() + max(_LEAST_S, in_ms / 1000) + behind_s

    def _keep(self, partition: int, at: float) -> None:
        self._at[partition] = at
        if self._timer is None or at < self._rings_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._at and not self._closed:
            self._rings_at = min(self._at.values())
            self._timer = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        for partition in [partition for partition, at in self._at.items() if at <= now]:
            del self._at[partition]
            task = asyncio.ensure_future(self._due(partition))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_timer()

    async def _due(self, partition: int) -> None:
        try:
            answer = await self._store.due(partition)
            if answer.next_ms is not None:
                self.needed(partition, answer.next_ms)
            for tx in answer.undelivered:
                self._deliver(tx)
            await self._do(answer)
        except BROKEN:
            self.needed(partition, int(_AGAIN_S * 1000))
        except Exception:
            log.exception("due failed", partition=partition)

    async def _do(self, answer: t.DueAnswer) -> None:
        for limit, tx in answer.admitted:
            await tell(self._store, limit, (tx,))
        for name, at_ms in answer.fires:
            await fire(self._store, name, at_ms, answer.now_ms)
        for tx in answer.removable:
            await self._remove(tx)

    async def _remove(self, tx: TxId) -> None:
        removed = await self._store.remove(tx)
        if removed is None and await parent_has_taken(self._store, tx):
            removed = await self._store.remove(tx, taken=True)
        if removed:
            log.debug("removed", tx=tx)
