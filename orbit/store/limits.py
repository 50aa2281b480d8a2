"""Limits for the whole fleet: permits, each limit's in the partition of its name."""

from __future__ import annotations

from orbit.protocol.ids import TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart


class Permits(StorePart):
    """Who may begin."""

    async def permit(self, limit: t.Limit, tx: TxId, lease_ms: int, priority: int = 0) -> t.Permit:
        """Ask for a permit, or hold on to the one that is held. Who gets none waits, in the order of asking.

        Args:
            limit: As the asker knows it; the newest asker's numbers count.
            lease_ms: A permit that isn't asked for again within this time goes to another.

        Raises:
            OutcomeUnknown: The connection broke. Asking again is safe. Atomic in `permit.lua`.
        """
        held, *admitted = await self._link.run(
            script.PERMIT, self._whole(limit.name), limit.name, tx, limit.most, f"{limit.gap_ms:.3f}", lease_ms,
            priority,
        )  # fmt: skip
        return t.Permit(held == b"1", decode.ids(admitted))

    async def unpermit(self, limit: str, tx: TxId) -> tuple[TxId, ...]:
        """Give a permit back, or wait for one no more; who got one thereby, and is to be roused. In `unpermit.lua`."""
        return decode.ids(await self._link.run(script.UNPERMIT, self._whole(limit), limit, tx))

    def _whole(self, limit: str) -> tuple[str]:
        return (self._keys.partition(self._keys.partition_named(limit)),)
