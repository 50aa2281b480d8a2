"""Renewal of leases, off the event loop's mercy: a thread with a loop and a connection of its own.

A blocked event loop doesn't lose its leases at once. But the thread renews only while it sees the loop's pulse, or
for some lease times after the last one: a loop that hangs for good loses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable

import structlog

from orbit.store.store import Store
from orbit.worker.lease import Lease, now_s
from orbit.worker.metrics import Metrics
from orbit.worker.renewals import Renewals, Renewed

log = structlog.get_logger("orbit.worker")

_PATIENCE = 3
"""So many lease times a silent event loop is still renewed for."""


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
        self._tick_s = min(1.0, max(0.05, lease_s / 10))
        self._metrics = metrics
        self._on_renewal = on_renewal
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._main = threading.get_ident()
        self._pulse_s = now_s()
        self._beating: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._wake: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._live, name="orbit leases", daemon=True)
        self.over = asyncio.Event()

    # ---- in the event loop

    def start(self) -> None:
        self._thread.start()
        self._beat()

    async def stop(self) -> None:
        self._stopping.set()
        if self._beating is not None:
            self._beating.cancel()
        if self._wake is not None:
            self._wake()
        await self.over.wait()

    def add(self, lease: Lease) -> None:
        self._renewals.add(lease)

    def remove(self, lease: Lease) -> None:
        self._renewals.remove(lease)

    def _beat(self) -> None:
        self._pulse_s = now_s()
        self._beating = self._loop.call_later(self._tick_s, self._beat)

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
        store = await self._open_store()
        reported = False
        try:
            while True:
                silent_s = now_s() - self._pulse_s
                if silent_s > max(1.0, 3 * self._tick_s) and not reported:
                    self._report(silent_s)
                reported = silent_s > max(1.0, 3 * self._tick_s)
                if silent_s < _PATIENCE * self._lease_s:
                    await self._renewals.round(store, lambda found: self._tell(self._on_renewal, found))
                await asyncio.sleep(self._tick_s)
        finally:
            self._wake = None
            await store.close()

    def _report(self, silent_s: float) -> None:
        """Name the line that blocks the event loop."""
        self._metrics.blocked.inc()
        frame = sys._current_frames().get(self._main)
        where = "".join(traceback.format_stack(frame)[-3:]) if frame is not None else "?"
        log.warning("the event loop is blocked", seconds=round(silent_s, 1), where=where)
