"""Renewal of leases, off the event loop's mercy: a thread with a loop and a connection of its own.

A blocked event loop doesn't lose its leases at once. But the thread renews only while it sees the loop's pulse, or
for some lease times after the last one: a loop that hangs for good loses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

import structlog

from orbit.store.store import Store
from orbit.worker.lapses import Lapses
from orbit.worker.lease import Lease
from orbit.worker.metrics import Metrics
from orbit.worker.renewals import Renewals, Renewed
from orbit.worker.settling import persist
from orbit.worker.watchdog import Pulse

log = structlog.get_logger("orbit.worker")

PATIENCE = 3
"""So many lease times a silent event loop is still renewed for."""


def tick_s(lease_s: float) -> float:
    """How often the loop gives a sign of life, and the thread looks at it and at the leases."""
    return min(0.5, max(0.05, lease_s / 10))


def timeout_s(lease_s: float) -> float:
    """How long a renewal may take: an answer that was lost is to be asked for again within the same lease."""
    return min(5.0, max(0.5, lease_s / 4))


class Renewer:
    """Renews the leases of one worker until it is stopped.

    `on_renewal` and `on_death` are called in the event loop that made it.
    """

    def __init__(
        self, open_store: Callable[[], Awaitable[Store]], worker: str, lease_s: float, metrics: Metrics,
        on_renewal: Callable[[Renewed], None], on_death: Callable[[BaseException], None],
    ) -> None:  # fmt: skip
        self._open_store = open_store
        self._lease_s = lease_s
        self._renewals = Renewals(worker, lease_s)
        self._tick_s = tick_s(lease_s)
        self._on_renewal = on_renewal
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._pulse = Pulse(self._tick_s, metrics)
        self._lapses = Lapses(self._renewals.held, lease_s, lambda lease: on_renewal(Renewed(lapsed=(lease,))))
        self._stopping = threading.Event()
        self._wake: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._live, name="orbit leases", daemon=True)
        self.over = asyncio.Event()

    # ---- in the event loop

    def start(self) -> None:
        self._thread.start()
        self._pulse.start()

    async def stop(self) -> None:
        self._stopping.set()
        self._pulse.stop()
        self._lapses.close()
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just closed
                wake()
        await self.over.wait()

    def add(self, lease: Lease) -> None:
        self._renewals.add(lease)
        self._lapses.added(lease)

    def remove(self, lease: Lease) -> None:
        self._renewals.remove(lease)

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(what, *args)

    # ---- in the thread

    def _live(self) -> None:
        try:
            asyncio.run(self._renew_until_stopped())
        except BaseException as error:  # whatever it was, a worker without renewals must end
            if not self._stopping.is_set():
                self._tell(self._on_death, error)
        finally:
            self._tell(self.over.set)

    async def _renew_until_stopped(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._wake = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._stopping.is_set():
            return
        store = await persist(self._open_store)
        try:
            while True:
                if self._pulse.watch() < PATIENCE * self._lease_s:
                    await self._renewals.round(store, lambda found: self._tell(self._on_renewal, found))
                await asyncio.sleep(self._tick_s)
        finally:
            self._wake = None
            await store.close()
