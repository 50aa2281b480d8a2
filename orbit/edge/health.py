"""Whether this edge is of use, its beat, and the sweep of other edges that died."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from orbit.errors import OrbitError

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

log = logging.getLogger("orbit.edge")


class Health:
    """What an edge says of itself, to others and to Redis."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._pulse = edge.config.pulse
        self._known = False

    @property
    def delivers(self) -> bool:
        """Redis answers, and delivers to this edge what is published."""
        return self._edge.hub.subscriber.delivers

    async def until_delivering(self) -> None:
        """Return when Redis delivers."""
        await self._edge.hub.subscriber.until_delivering()

    # ---- its tasks

    async def listen(self) -> None:
        """Hold the subscription until cancelled; begun again after a defect."""
        while True:
            try:
                await self._edge.hub.subscriber.run()
            except Exception:
                log.exception("the subscriber ended")
            await asyncio.sleep(self._pulse.retry_s)

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
