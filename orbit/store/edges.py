"""Edges: their register, their channels, and the places of those that are gone."""

from __future__ import annotations

import asyncio

from orbit.protocol.ids import PublicName, TxId
from orbit.store import script
from orbit.store.base import milliseconds
from orbit.store.registry import Registers
from orbit.store.types import Place

SWEEP_AT_ONCE = 200


class Edges(Registers):
    """Which edges are there."""

    async def beat_edge(self, edge: str, ttl_s: float) -> bool:
        """This edge is alive for `ttl_s` more.

        Returns:
            Whether it was known and alive until now. If not (it is new, or beat late), its places may have been freed.
        """
        return await self._beat(self._keys.edges, edge, ttl_s, "")

    async def forget_edge(self, edge: str) -> None:
        """This edge left: what places it still has are freed."""
        await self._free(edge, "+inf")
        await self._forget(self._keys.edges, edge)

    async def sweep_edges(self) -> int:
        """Free the places of edges that stopped beating; how many.

        Any process may call it, several at once harm nothing.
        Only places taken up to now are freed: an edge that was merely late attaches anew what it holds, and keeps that.
        """
        now, records = await self._alive(self._keys.edges)
        freed = 0
        for edge, (until, _) in records.items():
            if until <= now:
                freed += await self._free(edge, str(now))
                await self._forget(self._keys.edges, edge, only_silent=True)
        return freed

    async def places_of(self, edge: str) -> list[tuple[TxId, PublicName, Place]]:
        """The places that Redis holds for this edge."""
        found = await asyncio.gather(
            *(self._places_in(partition, edge) for partition in range(self._keys.partitions))
        )
        return [one for some in found for one in some]

    async def tell_edge(self, edge: str, payload: bytes) -> None:
        """Publish on an edge's own channel (`replaced`, `barred`)."""
        await self._link.write("SPUBLISH", self._keys.edge_channel(edge), payload)

    async def _free(self, edge: str, up_to: str) -> int:
        counts = await asyncio.gather(
            *(self._free_in(partition, edge, up_to) for partition in range(self._keys.partitions))
        )
        return sum(counts)

    async def _places_in(self, partition: int, edge: str) -> list[tuple[TxId, PublicName, Place]]:
        members = await self._link.read("ZRANGE", f"{self._keys.partition(partition)}:places:{edge}", 0, -1)
        found = []
        for member in members:
            tx, _, public = member.decode().partition(":")
            text = await self._link.read("HGET", f"{self._keys.transaction(TxId(tx))}:sess", f"p:{public}")
            place = Place.parse(text.decode()) if text is not None else None
            if place is not None and place.edge == edge:
                found.append((TxId(tx), PublicName(public), place))
        return found

    async def _free_in(self, partition: int, edge: str, up_to: str) -> int:
        freed, found, grace_ms = 0, SWEEP_AT_ONCE, milliseconds(self.settings.grace_s)
        while found == SWEEP_AT_ONCE:
            found = await self._link.run(
                script.SWEEP, self._keys.whole(partition), edge, SWEEP_AT_ONCE, grace_ms, up_to
            )
            freed += found
        return freed
