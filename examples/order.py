"""An order: paid once, shipped when the warehouse says so, refunded when it is cancelled.

    orbit dev examples/order.py
    id=$(orbit start Order --input '{"item": "tea", "cents": 450}')
    orbit tail $id &
    orbit send $id '{"shipped": "RR123456789"}'       # the warehouse; or: orbit cancel $id --reason "changed my mind"

A step's effect outside is at-least-once: a worker can die after the payment and before its record. So the payment goes
out under the step's key (`current_step().key`), which is the same in each attempt and after each crash, and the payment
service, here a file of SQLite's, takes each key once.

What is worth another try is raised (`retries`); what isn't (a payment that was declined) is returned.
"""

import os
import sqlite3
import tempfile
from contextlib import closing
from typing import Any

from orbit import State, current_step

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
LEDGER = os.environ.get("ORDER_LEDGER", os.path.join(tempfile.gettempdir(), "orbit-example-ledger.db"))
"""The payment service's file."""
TABLES = """
CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, of TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refunds (of TEXT PRIMARY KEY, cents INTEGER NOT NULL);
"""


# ---- the payment service


def charge(key: str, of: str, cents: int) -> str | None:
    """Take the money for the order `of`, once per key; None where it is declined.

    The reply to the first call gets lost, as replies do: who calls again with the same key is told how it went.
    """
    with closing(sqlite3.connect(LEDGER)) as ledger, ledger:
        ledger.executescript(TABLES)
        ledger.execute("BEGIN IMMEDIATE")
        if cents > 100_000 or ledger.execute("SELECT 1 FROM refunds WHERE of = ?", (of,)).fetchone():
            return None
        taken = ledger.execute("INSERT OR IGNORE INTO payments VALUES (?, ?, ?)", (key, of, cents)).rowcount
    if taken:
        raise ConnectionError("the payment service doesn't answer")
    return f"receipt {key[:8]}"


def give_back(of: str) -> int:
    """Refund whatever was taken for the order `of`, once, and take nothing more for it."""
    with closing(sqlite3.connect(LEDGER)) as ledger, ledger:
        ledger.executescript(TABLES)
        ledger.execute("BEGIN IMMEDIATE")
        (cents,) = ledger.execute("SELECT coalesce(sum(cents), 0) FROM payments WHERE of = ?", (of,)).fetchone()
        ledger.execute("INSERT OR IGNORE INTO refunds VALUES (?, ?)", (of, cents))
    return int(cents)


# ---- the order


def pay(of: str, cents: int) -> str | None:
    return charge(current_step().key, of, cents)


class Order(State, retries=10, cancel_timeout_s=60.0):
    """Pays, waits for the shipment, and says what happens."""

    item: str
    cents: int
    ship_within_s: float = 2 * DAY_S
    give_up_after_s: float = 30 * DAY_S

    async def run(self) -> dict[str, Any]:
        transaction = self.transaction
        receipt = await transaction.step(
            "pay", pay, transaction.id, self.cents, retries=5, backoff_s=1.0, timeout_s=30.0
        )
        if receipt is None:
            await transaction.fail("the payment was declined")
        await transaction.send_update({"paid": receipt}, once="paid")

        await transaction.set_timer("late", self.ship_within_s)
        shipment = await transaction.wait_message("shipment", timeout_s=self.give_up_after_s)
        await transaction.cancel_timer("late")
        if shipment is None:
            await transaction.step("refund", give_back, transaction.id, retries=20, backoff_s=1.0)
            await transaction.fail("it couldn't be shipped: the money was given back")
        assert shipment is not None, "fail never returns"
        await transaction.send_update(shipment.data, once="shipped")
        return {"receipt": receipt, "shipment": shipment.data}

    async def on_timer(self, name: str) -> None:
        await self.transaction.send_update({"late": self.item})

    async def on_cancel(self) -> None:
        # A payment that is still under way comes too late: the service takes nothing more for this order.
        cents = await self.transaction.step("refund", give_back, self.transaction.id, retries=20, backoff_s=1.0)
        await self.transaction.send_update({"refunded": cents, "why": self.transaction.cancel_reason})
