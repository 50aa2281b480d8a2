"""The event loop's pulse, and a watch over it from another thread: who blocks the loop is named while it does."""

from __future__ import annotations

import asyncio
import sys
import threading

import structlog

from orbit.worker.lease import now_s
from orbit.worker.metrics import Metrics
from orbit.worker.places import stands

log = structlog.get_logger("orbit.worker")


class Pulse:
    """A sign of life every `tick_s` of the loop that made it; `watch` is called by another thread.

    Each time that the loop is blocked is reported once: while it lasts, or at its end where that thread stood still as
    well.
    """

    def __init__(self, tick_s: float, metrics: Metrics) -> None:
        self._tick_s = tick_s
        self._limit_s = max(1.0, 3 * tick_s)
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._last_s = self._looked_s = now_s()
        self._reported_s: float | None = None
        self._next: asyncio.TimerHandle | None = None

    # ---- in the event loop

    def start(self) -> None:
        self._last_s = now_s()
        self._next = self._loop.call_later(self._tick_s, self._beat)

    def stop(self) -> None:
        """No more signs of life."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        before_s, self._last_s = self._last_s, now_s()
        silent_s = self._last_s - before_s
        if silent_s > self._limit_s:
            self._metrics.blocked_s.inc(silent_s)
            if self._reported_s != before_s:
                self._metrics.blocked.inc()
                what = "the whole process stood still, or ran code that lets no other thread run"
                log.warning(what, seconds=round(silent_s, 1))
        self._next = self._loop.call_later(self._tick_s, self._beat)

    # ---- in the thread that watches

    def watch(self) -> float:
        """For how long there was no sign of life. Whoever blocks the loop is named, once."""
        last_s, now = self._last_s, now_s()
        looked_s, self._looked_s = self._looked_s, now
        silent_s = now - last_s
        if now - looked_s > self._limit_s:
            return silent_s  # this thread stood still, too: where the loop stands now says nothing
        if silent_s > self._limit_s and self._reported_s != last_s:
            self._reported_s = last_s
            self._report(silent_s)
        return silent_s

    def _report(self, silent_s: float) -> None:
        self._metrics.blocked.inc()
        place = stands(sys._current_frames().get(self._thread))
        said = {"seconds": round(silent_s, 1), "where": place.where, "stack": place.stack}
        if place.actor is not None:
            said |= {"tx": place.actor.tx, "state": place.actor.options.name, "hook": place.hook}
        log.warning("the event loop is blocked", **said)
