"""Leases that nobody confirms: what runs under them is stopped before the server gives them to another worker.

Past its own deadline a lease lets no turn begin. Half the margin later what runs under it is stopped: Redis is out of
reach, and another worker may be about to go on with it. A process that stood still finds all of its leases lapsed when
it wakes; the same half margin then lets a renewal say what still is its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from orbit.worker.lease import Lease, margin_s, now_s

_LEAST_S = 0.01


class Noticed:
    """Since when each lease is seen to be past its deadline. Time comes in as an argument."""

    def __init__(self, lease_s: float) -> None:
        self._patience_s = margin_s(lease_s) / 2
        self._since: dict[Lease, float] = {}

    def look(self, leases: Iterable[Lease], now: float) -> tuple[list[Lease], float | None]:
        """(leases to be given up now, when to look again; None: there is none to look at)"""
        lapsed: dict[Lease, float] = {}
        over, again = [], None
        for lease in leases:
            if lease.deadline_s >= now:
                at = lease.deadline_s
            else:
                since = lapsed[lease] = self._since.get(lease, now)
                at = since + self._patience_s
                if at <= now:
                    over.append(lease)
                    continue
            again = at if again is None else min(again, at)
        self._since = lapsed
        return over, again


class Lapses:
    """Looks after what `held` names, in the event loop; `on_lapsed` is told of each lease that is to be given up."""

    def __init__(
        self, held: Callable[[], Iterable[Lease]], lease_s: float, on_lapsed: Callable[[Lease], None]
    ) -> None:
        self._held = held
        self._noticed = Noticed(lease_s)
        self._on_lapsed = on_lapsed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = 0.0

    def added(self, lease: Lease) -> None:
        """Another lease is to be looked after."""
        in_s = max(_LEAST_S, lease.deadline_s - now_s())
        if self._timer is None or self._loop.time() + in_s < self._looks_at:
            self._set(in_s)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, in_s: float) -> None:
        self.close()
        self._looks_at = self._loop.time() + in_s
        self._timer = self._loop.call_later(in_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = now_s()
        over, again = self._noticed.look(self._held(), now)
        if again is not None:
            self._set(max(_LEAST_S, again - now))
        for lease in over:
            self._on_lapsed(lease)
