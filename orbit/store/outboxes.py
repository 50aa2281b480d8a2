"""What crosses partitions: starts and ends of children. Each is idempotent, and done again until it is acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

import msgpack

from orbit.errors import Internal
from orbit.protocol.ids import TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart, digits, milliseconds

SLOW_S = 300.0
"""How much later a delivered start is looked at again: Redis may have lost the child."""


def child_field(tx: TxId, key: str) -> str:
    """Where a child stands in its parent's outbox."""
    return f"s/{tx}/{key}"


def child_of(field: str) -> tuple[TxId, str]:
    """The child and its key of such a field."""
    _, tx, key = field.split("/", 2)
    return TxId(tx), key


def pack_start(new: t.NewTransaction) -> bytes:
    """A start as it waits in an outbox."""
    packed: bytes = msgpack.packb(asdict(new))
    return packed


def unpack_start(packed: bytes) -> t.NewTransaction:
    fields: dict[str, Any] = msgpack.unpackb(packed)
    parent = fields.pop("parent")
    return t.NewTransaction(**fields, parent=t.Parent(**parent) if parent else None)


class Outboxes(StorePart):
    """What is to be delivered, and what was."""

    async def outbox(self, tx: TxId) -> t.Outbox | t.Missing:
        """What the transaction wants done elsewhere, in `outbox.lua`."""
        return decode.outbox(await self._link.run(script.OUTBOX, (self._keys.transaction(tx),)))

    async def child_start(self, tx: TxId, field: str) -> t.NewTransaction | None:
        """The start that stands in that field; None where it doesn't any more."""
        packed = await self._link.read("HGET", f"{self._keys.transaction(tx)}:outbox", field)
        return None if packed is None else unpack_start(packed)

    async def deliver(
        self, parent: t.Parent, child: TxId, ended: t.Outcome
    ) -> Literal["gone", "over", "taken", "delivered"]:
        """Enter a child's end into its parent's inbox, once.

        Returns:
            gone: There is no such parent any more. over: It failed, and may be retried. taken: It has taken this end.
            delivered: The end waits in its inbox.

        Raises:
            OutcomeUnknown: The connection broke. Delivering again is safe. Atomic in `deliver.lua`.
        """
        answer = await self._link.run(
            script.DELIVER, self._keys.both(parent.tx), parent.tx, child, parent.key, decode.pack_outcome(ended),
            digits(18),
        )
        match decode.text(answer):
            case "gone" | "over" | "taken" | "delivered" as said:
                return said
        raise Internal("deliver.lua answered something else")

    async def acknowledge(self, tx: TxId, number: int, done: Iterable[str]) -> None:
        """Take what was delivered out of the outbox that was read at this commit number. Atomic in `acknowledge.lua`.

        Where there was another commit meanwhile nothing is changed: it is delivered again.
        """
        await self._link.run(script.ACKNOWLEDGE, self._keys.both(tx), tx, number, milliseconds(SLOW_S), *done)

    async def rouse(self, tx: TxId, why: str) -> bool:
        """Something that the transaction waits for has happened; whether it is there to hear of it. In `rouse.lua`."""
        return bool(await self._link.run(script.ROUSE, self._keys.both(tx), tx, why))
