"""What was committed lately, compared with what was heard: so a live message that pub/sub lost in silence is found."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from orbit.errors import OrbitError
from orbit.protocol.ids import TxId

if TYPE_CHECKING:
    from orbit.edge.hub import Hub, Watch

log = logging.getLogger("orbit.edge")

OVERLAP_MS = 2000
"""How far each look reaches back before the last one: commits of one millisecond don't all show at once."""
FIRST_LOOK_MS = 10_000
PATIENCE_S = 0.3
"""How long a live message may be on its way."""
NEVER_MS = 2**52


class Recent:
    """Looks at each partition that something is watched in."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._since: dict[int, int] = {}
        self._over_at = 0.0

    async def run(self) -> None:
        """Until cancelled. Asks Redis nothing while nothing is watched."""
        while True:
            await asyncio.sleep(self._hub.pulse.recent_s)
            try:
                await self.look()
            except OrbitError as error:
                log.debug("looking at recent commits: %s", error)
            except Exception:
                log.exception("a defect in looking at recent commits")

    async def look(self) -> None:
        """Once: every partition that is watched."""
        watched: dict[int, dict[TxId, Watch]] = defaultdict(dict)
        for watch in self._hub.watches():
            if watch.feed is not None:
                watched[self._hub.store.partition_of(watch.tx)][watch.tx] = watch
        self._since = {partition: since for partition, since in self._since.items() if partition in watched}
        self._look_at_ended()
        await asyncio.gather(*(self._look(partition, watches) for partition, watches in watched.items()))

    def _look_at_ended(self) -> None:
        """What has ended may be removed, and nobody says so."""
        now = asyncio.get_running_loop().time()
        if now - self._over_at < self._hub.pulse.over_s:
            return
        self._over_at = now
        for watch in self._hub.watches():
            if watch.feed is not None and watch.feed.over:
                watch.suspect()

    async def _look(self, partition: int, watches: dict[TxId, Watch]) -> None:
        since = self._since.get(partition)
        if since is None:
            now, _ = await self._hub.store.changed_since(partition, NEVER_MS)
            since = now - FIRST_LOOK_MS
        known = {tx: watch.feed.number for tx, watch in watches.items() if watch.feed is not None}
        now, changed = await self._hub.store.changed_since(partition, since)
        self._since[partition] = now - OVERLAP_MS
        for tx, number in changed.items():
            if tx in known and number != known[tx]:
                self._compare(watches[tx], number, known[tx])

    def _compare(self, watch: Watch, number: int, known: int) -> None:
        """`known` was held before Redis was asked: a lower number means that Redis went back."""
        if number < known:
            watch.suspect()
        elif watch.feed is not None and watch.feed.number < number:
            asyncio.get_running_loop().call_later(PATIENCE_S, self._still_missing, watch, number)

    def _still_missing(self, watch: Watch, number: int) -> None:
        if watch.feed is not None and watch.feed.number < number and not watch.gone:
            self._hub.metrics.lost.inc()
            watch.suspect()
