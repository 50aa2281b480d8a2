"""Whether this edge is of use: Redis delivers to it what is published. Not that a socket is open.

A probe goes out on the edge's own channel and has to come back. A subscription that has gone deaf (connected, and
nothing arrives) is thrown away and made anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgpack

from orbit.errors import OrbitError

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

log = logging.getLogger("orbit.edge")


class Health:
    """The probe, the beat, and the sweep of other edges that died."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._pulse = edge.config.pulse
        self._sent = 0
        self._heard = 0
        self._heard_at: float | None = None
        self._listening_since = 0.0
        self._known = False
        self._listening: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def delivers(self) -> bool:
        """Redis answered lately, and delivered the probe."""
        if self._heard_at is None or not self._edge.hub.subscriber.connected:
            return False
        return self._now() - self._heard_at < self._pulse.deaf_s

    def heard(self, number: int) -> None:
        """A probe came back."""
        if number > self._heard:
            self._heard, self._heard_at = number, self._now()
            self._changed.set()

    async def until_delivering(self) -> None:
        """Return when Redis delivers."""
        while not self.delivers:
            self._changed.clear()
            await self._changed.wait()

    # ---- its tasks

    async def listen(self) -> None:
        """Hold the subscription until cancelled; made anew when it has gone deaf."""
        subscriber = self._edge.hub.subscriber
        while True:
            self._listening_since = self._now()
            self._listening = asyncio.create_task(subscriber.run(), name="subscriber")
            try:
                await asyncio.wait([self._listening])
            finally:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)
            if not self._listening.cancelled():
                log.error("the subscriber ended", exc_info=self._listening.exception())
                await asyncio.sleep(self._pulse.retry_s)

    async def probe(self) -> None:
        """Publish one, and see whether the ones before came back."""
        self._sent += 1
        sent_at = self._now()
        try:
            await self._edge.store.tell_edge(self._edge.id, msgpack.packb({"t": "probe", "n": self._sent}))
        except OrbitError as error:
            log.debug("probing: %s", error)
            return
        quiet_s = sent_at - max(self._heard_at or 0.0, self._listening_since)
        if quiet_s > self._pulse.deaf_s and self._edge.hub.subscriber.connected and self._listening is not None:
            log.warning("the subscription has gone deaf: no probe for %.1f s; subscribing anew", quiet_s)
            self._edge.metrics.deaf.inc()
            self._heard_at = None
            self._listening.cancel()

    async def beat(self) -> None:
        """Say that this edge lives. If that came too late, others took it for dead: its places are checked."""
        try:
            alive = await self._edge.store.beat_edge(self._edge.id, self._pulse.dead_s)
        except OrbitError as error:
            log.debug("beating: %s", error)
            return
        if self._known and not alive:
            self._edge.recheck()
        self._known = True

    async def sweep(self) -> None:
        """Detach the sessions of edges that died."""
        try:
            await self._edge.store.sweep_edges()
        except OrbitError as error:
            log.debug("sweeping: %s", error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
