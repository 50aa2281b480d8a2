"""Edges: their register, their channels, and the places of those that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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
        await self._free(edge, ["+inf"] * self._keys.partitions)
        await self._forget(self._keys.edges, edge)

    async def sweep_edges(self) -> int:
        """Free the places of edges that stopped beating; how many.

        Any process may call it, several at once harm nothing.
        Only places are freed that were taken before an edge was found dead: one that was merely late attaches anew what
        it holds, and keeps that. Each partition's places are judged by its own server's clock, the edges by theirs: so
        the partitions' clocks are read between two looks at the edges, and count for those that were dead both times.
        """
        if not await self._dead():
            return 0
        up_to = await asyncio.gather(*map(self._clock_ms, range(self._keys.partitions)))
        freed = 0
        for edge in await self._dead():
            swept = await self._free(edge, [f"({one}" for one in up_to])
            if not swept and not await self._places_left(edge):
                await self._forget(self._keys.edges, edge, only_silent=True)
            freed += swept
        return freed

    async def _dead(self) -> list[str]:
        now, records = await self._alive(self._keys.edges)
        return [edge for edge, (until, _) in records.items() if until <= now]

    async def _places_left(self, edge: str) -> int:
        return sum(
            await asyncio.gather(
                *(self._link.read("ZCARD", self._keys.places(one, edge)) for one in range(self._keys.partitions))
            )
        )

    async def places_of(self, edge: str) -> list[tuple[TxId, PublicName, Place]]:
        """The places that Redis holds for this edge."""
        found = await asyncio.gather(
            *(self._places_in(partition, edge) for partition in range(self._keys.partitions))
        )
        return [one for some in found for one in some]

    async def tell_edge(self, edge: str, payload: bytes) -> None:
        """Publish on an edge's own channel (`replaced`, `barred`)."""
        await self._link.write("SPUBLISH", self._keys.edge_channel(edge), payload)

    async def _free(self, edge: str, up_to: Sequence[str]) -> int:
        """`up_to`: by partition, the newest places that are freed, as a bound of a range."""
        return sum(await asyncio.gather(*(self._free_in(one, edge, bound) for one, bound in enumerate(up_to))))

    async def _places_in(self, partition: int, edge: str) -> list[tuple[TxId, PublicName, Place]]:
        members = await self._link.read("ZRANGE", self._keys.places(partition, edge), 0, -1)
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
