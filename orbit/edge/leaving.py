"""Sessions that left: their places are freed, however long Redis takes."""

from __future__ import annotations

import asyncio
import logging

from orbit.errors import OrbitError
from orbit.protocol.ids import PublicName, TxId
from orbit.store.store import Store
from orbit.store.types import Place

log = logging.getLogger("orbit.edge")

AT_ONCE = 100


class Leaving:
    """Frees places in the background; again and again where Redis doesn't answer. Freeing one twice harms nothing."""

    def __init__(self, store: Store, retry_s: float) -> None:
        self._store = store
        self._retry_s = retry_s
        self._places: dict[tuple[TxId, PublicName, Place], None] = {}
        self._more = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, tx: TxId, session: PublicName, place: Place) -> None:
        self._places[tx, session, place] = None
        self._more.set()
        self._none.clear()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._more.wait()
            batch = tuple(self._places)[:AT_ONCE]
            results = await asyncio.gather(*(self._store.detach(*place) for place in batch), return_exceptions=True)
            for place, result in zip(batch, results, strict=True):
                if isinstance(result, Exception) and not isinstance(result, OrbitError):
                    log.error("a defect in detaching", exc_info=result)
                if not isinstance(result, OrbitError):
                    del self._places[place]
            if not self._places:
                self._more.clear()
                self._none.set()
            elif any(isinstance(result, OrbitError) for result in results):
                await asyncio.sleep(self._retry_s)

    async def settled(self) -> None:
        """Return when all have left."""
        await self._none.wait()
