"""A worker for tests: a worker's real turns, claims and timers, without what only a fleet needs (beats, sweeps)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.probing import Pace
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.worker.care import Caretaker
from orbit.worker.claims import Claimer
from orbit.worker.delivery import Courier
from orbit.worker.discover import App, queues_of, record_of, specs_of
from orbit.worker.lease import Lease, now_s
from orbit.worker.metrics import Metrics
from orbit.worker.processes import Processes
from orbit.worker.ranking import Ranks
from orbit.worker.renewals import Renewals, Renewed
from orbit.worker.slots import Slots
from orbit.worker.surroundings import Surroundings

LEASE_S = 10.0
CONCURRENCY = 10_000
_NEVER = Pace(1e9, 1e9, 1e9)


class LoopRenewer:
    """Renews leases in the event loop itself, and only when one is due: for virtual time."""

    def __init__(self, store: Store, worker: str, lease_s: float, on_renewal: Callable[[Renewed], None]) -> None:
        self._store = store
        self._renewals = Renewals(worker, lease_s)
        self._on_renewal = on_renewal
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, lease: Lease) -> None:
        self._renewals.add(lease)
        self._changed.set()

    def remove(self, lease: Lease) -> None:
        self._renewals.remove(lease)

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._renew())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _renew(self) -> None:
        while True:
            due_s = self._renewals.next_s()
            self._changed.clear()
            try:
                async with asyncio.timeout(None if due_s is None else max(0.001, due_s - now_s())):
                    await self._changed.wait()
            except TimeoutError:
                await self._renewals.round(self._store, self._on_renewal)


class TestWorker:
    """One worker on an open store, which stays open."""

    __test__ = False  # it isn't a test

    def __init__(self, store: Store, app: App, name: str, tapped: Store, options: dict[str, Any]) -> None:
        self._store = store
        self._app = app
        self._name = name
        self._metrics = Metrics()
        self._courier = Courier(tapped)
        self._processes = Processes(2)
        states = {spec: cls for cls in app.states for spec in specs_of(cls, queues_of(app, ()))}
        self._around = Surroundings(
            tapped, self._metrics, middleware=app.middleware, deliver=self._courier.deliver,
            processes=self._processes, lease_s=LEASE_S, **options,
        )  # fmt: skip
        self._renewer = LoopRenewer(store, name, LEASE_S, lambda found: self._slots.renewed(found))
        self._slots = Slots(self._around, states, CONCURRENCY, self._renewer, lambda: self._claimer.pump())
        self._claimer = Claimer(
            tapped, name, tuple(states), LEASE_S, lambda: self._slots.room, self._slots.grant, self._slots.hurry
        )
        self._care = Caretaker(store, Ranks(name), self._claimer.want, self._courier.deliver_again)
        self._subscriber = Subscriber(
            store, on_wake=self._on_wake, on_nudge=self._slots.nudge, on_gap=self._look, pace=_NEVER
        )
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._store.publish_states([record_of(cls) for cls in self._app.states])
        self._renewer.start()
        self._listening = asyncio.ensure_future(self._subscriber.run())
        await self._subscriber.follow_partitions(self._name)
        self._look()

    async def stop(self) -> None:
        """Hand all over, and end."""
        await self._claimer.close()
        await self._slots.drain(30.0)
        await self._end()
        await self._courier.close()

    async def kill(self) -> list[TxId]:
        """As if the process were lost; what it held."""
        held = self._slots.kill()
        await self._claimer.abandon()
        await self._courier.abandon()
        await self._end()
        return held

    async def _end(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._care.close()
        await self._renewer.stop()
        await self._processes.close()

    def _on_wake(self, wake: t.ReadyWake | t.DueWake) -> None:
        if isinstance(wake, t.DueWake):
            self._care.heard(wake)
        else:
            self._claimer.want(wake.partition)

    def _look(self) -> None:
        self._slots.nudge_all()
        for partition in range(self._store.partitions):
            self._care.needed(partition, 0)
            self._claimer.want(partition)
