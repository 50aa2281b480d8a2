"""Which leases are to be renewed when, and what a renewal found. Who does it, in which thread, is another matter."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orbit.protocol.ids import TxId
from orbit.store.store import Store
from orbit.worker.lease import Lease, now_s, own_deadline_s
from orbit.worker.settling import BROKEN

_DUE = 0.55
"""A lease is renewed once less than this share of it is left."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """What became of leases, and what a renewal found.

    Attributes:
        lost: The server says that they are another's, or nobody's.
        lapsed: Nobody confirmed them in time; they may still be held.
        waiting / cancelled: Transactions for which something waits / a cancel was asked.
    """

    lost: tuple[Lease, ...] = ()
    waiting: frozenset[TxId] = frozenset()
    cancelled: frozenset[TxId] = frozenset()
    lapsed: tuple[Lease, ...] = ()


class KeepsLeases(Protocol):
    """Who renews the leases that it was given."""

    def add(self, lease: Lease) -> None: ...
    def remove(self, lease: Lease) -> None: ...
    def start(self) -> None: ...
    async def stop(self) -> None: ...


class Renewals:
    """The leases of one worker. Leases come and go from one thread, rounds are done in the same or another."""

    def __init__(self, worker: str, lease_s: float) -> None:
        self._worker = worker
        self._lease_s = lease_s
        self._guard = threading.Lock()
        self._leases: dict[TxId, Lease] = {}

    def add(self, lease: Lease) -> None:
        with self._guard:
            self._leases[lease.tx] = lease

    def remove(self, lease: Lease) -> None:
        with self._guard:
            if self._leases.get(lease.tx) is lease:
                del self._leases[lease.tx]

    def held(self) -> list[Lease]:
        """All that are looked after."""
        with self._guard:
            return list(self._leases.values())

    def next_s(self) -> float | None:
        """When the first is due, by `now_s`; None where there is none."""
        with self._guard:
            return min((lease.deadline_s - _DUE * self._lease_s for lease in self._leases.values()), default=None)

    async def round(self, store: Store, tell: Callable[[Renewed], None]) -> None:
        """Renew what is due, one request per partition. What Redis doesn't answer is asked in the next round."""
        now = now_s()
        due: dict[int, list[Lease]] = defaultdict(list)
        for lease in self.held():
            if lease.deadline_s - now < _DUE * self._lease_s:
                due[store.partition_of(lease.tx)].append(lease)
        if due:
            await asyncio.gather(*(self._renew(store, partition, held, tell) for partition, held in due.items()))

    async def _renew(
        self, store: Store, partition: int, leases: list[Lease], tell: Callable[[Renewed], None]
    ) -> None:
        asked_s = now_s()  # before it is sent: what the answer confirms began no earlier at the server
        held = [lease.held for lease in leases]
        try:
            renewal = await store.renew(partition, self._worker, held, int(self._lease_s * 1000))
        except BROKEN:
            return
        lost: list[Lease] = []
        for lease, sent in zip(leases, held, strict=True):
            if sent.tx not in renewal.lost:
                lease.extend(own_deadline_s(asked_s, self._lease_s))
            elif lease.number == sent.number and not lease.settling:
                lost.append(lease)
        if lost or renewal.waiting or renewal.cancelled:
            tell(Renewed(tuple(lost), renewal.waiting, renewal.cancelled))
