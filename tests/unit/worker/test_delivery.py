"""How often what stands in an outbox is delivered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.outboxes import child_field, child_of
from orbit.worker.delivery import Courier

PARENT = TxId("parent")
NEW = t.NewTransaction(PARENT, "Child", 1, "default", b"{}", "", False, 10, 10.0)


class Outbox:
    """A store of one outbox: what is asked of it."""

    def __init__(self) -> None:
        self.children: list[str] = []
        self.status: Any = "running"
        self.cancels = False
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.acknowledged = asyncio.Event()

    def start_one_more(self) -> None:
        self.children.append(child_field(TxId(f"child-{len(self.children)}"), f"key-{len(self.children)}"))

    async def outbox(self, tx: TxId) -> t.Outbox:
        fields = tuple(self.children)
        return t.Outbox(1, t.Outcome(self.status, None), None, fields, self.cancels, fields)

    async def child_start(self, tx: TxId, field: str) -> t.NewTransaction:
        return replace(NEW, tx=child_of(field)[0])

    async def start(self, new: t.NewTransaction) -> t.Started:
        self.started.append(new.tx)
        return t.Started(new.tx)

    async def cancel(self, tx: TxId, reason: str) -> None:
        self.cancelled.append(tx)

    async def acknowledge(self, tx: TxId, number: int, done: Any) -> None:
        self.acknowledged.set()


async def delivered(outbox: Outbox, courier: Courier, *, again: bool = False) -> list[str]:
    """What is started by one more delivery."""
    outbox.started.clear()
    outbox.acknowledged.clear()
    (courier.deliver_again if again else courier.deliver)(PARENT)
    await outbox.acknowledged.wait()
    await courier.close()
    courier._closed = False
    return list(outbox.started)


async def test_with_each_child_those_before_are_left_alone() -> None:
    outbox = Outbox()
    store: Any = outbox
    courier = Courier(store)
    for n in range(5):
        outbox.start_one_more()
        assert await delivered(outbox, courier) == [f"child-{n}"]
    assert len(await delivered(outbox, courier, again=True)) == 5, "one may have been lost by Redis"
    assert await delivered(outbox, courier) == []


async def test_at_the_end_and_at_a_cancel_all_are_looked_at() -> None:
    outbox = Outbox()
    store: Any = outbox
    courier = Courier(store)
    outbox.start_one_more()
    outbox.start_one_more()
    await delivered(outbox, courier)
    outbox.status, outbox.cancels = "cancelled", True
    assert len(await delivered(outbox, courier)) == 2
    assert outbox.cancelled == ["child-0", "child-1"]
