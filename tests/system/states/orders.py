"""Orders, each of several steps that act on the world outside: here the file `ORDERS_LEDGER`.

Each act adds a line there, `<key> <what> <order>`: whoever keeps such a ledger takes a key once. So what is done again
after a crash must come with the key that it came with before.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from orbit import State, current_step

LINES = 3


def act(what: str, order: str) -> str:
    """Something that is done to the world; a receipt."""
    key = current_step().key
    line = f"{key} {what} {order}\n"
    ledger = os.open(os.environ["ORDERS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)
    return key


async def act_slowly(what: str, order: str) -> str:
    await asyncio.sleep(0.05)
    key = act(what, order)
    await asyncio.sleep(0.05)
    return key


class Parcel(State):
    """Brings an order to its customer."""

    order: str

    async def run(self) -> str:
        return await self.transaction.step("bring", act_slowly, "bring", self.order)


class Order(State, retries=0):
    """Reserved line by line, paid, packed, shipped when the warehouse says so, and brought."""

    receipts: list[str] = []  # noqa: RUF012 - a pydantic field

    async def run(self) -> list[str]:
        transaction = self.transaction
        await transaction.each("lines", range(LINES), self.reserve)
        paid = await transaction.step("pay", act, "pay", transaction.id)
        if len(self.receipts) == LINES:
            self.receipts.append(paid)
        await transaction.send_update({"paid": paid}, once="paid")
        await transaction.sleep("packing", 0.3)
        shipment = await transaction.wait_message("shipment")
        assert shipment is not None
        await transaction.send_update({"shipped": shipment.data}, once="shipped")
        parcel = await transaction.start("parcel", Parcel(order=transaction.id))
        brought: Any = await parcel.result()
        await transaction.send_update({"brought": brought}, once="brought")
        return [*self.receipts, brought]

    async def reserve(self, line: int) -> None:
        receipt = await self.transaction.step("reserve", act_slowly, f"reserve{line}", self.transaction.id)
        self.receipts.append(receipt)
        await self.transaction.send_update({"reserved": line})
