"""Children: their starts wait in an outbox, their ends reach the parent's inbox once, whatever is done twice."""

from __future__ import annotations

from typing import Any

import pytest

from orbit.protocol.entries import Failure
from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.outboxes import child_field, child_of, pack_start, unpack_start
from tests.contract.house import Heard, House

covers = pytest.mark.covers
KEY = "run/0\x1fencode: a/b"
DONE = t.Outcome("finished", b"result")


class Family:
    """A parent that runs and wants a child; its start waits in the outbox."""

    def __init__(self, house: House, parent: t.Grant, new: t.NewTransaction) -> None:
        self.house, self.parent, self.new = house, parent, new
        self.child = new.tx
        self.field = child_field(new.tx, KEY)
        self.of = t.Parent(parent.tx, KEY)
        self.number = 1

    @classmethod
    async def begin(cls, house: House, **changes: Any) -> Family:
        parent = await house.run()
        new = house.new(parent=t.Parent(parent.tx, KEY), lineage="Demo/Demo", **changes)
        family = cls(house, parent, new)
        await house.commit(parent, outbox=((family.field, pack_start(new)),))
        return family

    async def start(self) -> t.Grant:
        """The child, started and running."""
        assert await self.house.store.start(self.new) == t.Started(self.child)
        return await self.house.claim_one(self.child)

    async def box(self, tx: TxId | None = None) -> t.Outbox:
        found = await self.house.store.outbox(tx or self.parent.tx)
        assert isinstance(found, t.Outbox)
        return found

    async def deliver(self) -> str:
        return await self.house.store.deliver(self.of, self.child, DONE)

    async def ends(self) -> list[t.ChildEnd]:
        found = (await self.house.work(self.parent.tx)).incoming
        return [one for one in found if isinstance(one, t.ChildEnd)]

    async def take(self) -> None:
        """The parent takes the end."""
        (end,) = await self.ends()
        await self.house.commit(self.parent, self.number, consumed=(end.id,), taken=(self.field,))
        self.number += 1

    async def is_due(self, tx: TxId | None = None) -> bool:
        tx = tx or self.parent.tx
        return f"o:{tx}".encode() in await self.house.due_members(tx)


async def test_a_start_comes_out_of_the_outbox_as_it_went_in(house: House) -> None:
    family = await Family.begin(house, at_ms=7, priority=3, delay_s=1.5)
    assert child_of(family.field) == (family.child, KEY)
    assert unpack_start(pack_start(family.new)) == family.new
    assert await house.store.child_start(family.parent.tx, family.field) == family.new
    assert await house.store.child_start(family.parent.tx, "s/none/key") is None


@covers("commit", "to be delivered")
@covers("lib/outbox", "due")
@covers("outbox", "outbox", "missing")
@covers("start", "child")
async def test_a_child_is_wanted_started_and_known(house: House) -> None:
    family = await Family.begin(house)
    assert await house.store.outbox(TxId("nowhere-to-be-found")) == t.Missing()
    assert await family.box() == t.Outbox(
        1, t.Outcome("running"), None, (family.field,), False, (family.field,)
    )
    assert await family.is_due()
    assert (await house.loaded(family.parent)).children == (family.field,)
    child = await house.loaded(await family.start())
    assert (child.parent, child.lineage) == (family.of, "Demo/Demo")
    assert await house.refused(house.store.start(family.new)) == t.Existed(family.child, t.Outcome("running"))
    shown = await house.store.get(family.child)
    assert shown is not None
    assert shown.parent == family.parent.tx


@covers("due", "undelivered", "delivered already")
async def test_due_names_it_again_until_it_is_delivered(house: House) -> None:
    family = await Family.begin(house)
    await house.pass_due(family.parent.tx, "o")
    assert (await house.due(family.parent.tx)).undelivered == (family.parent.tx,)
    assert (await house.due(family.parent.tx)).undelivered == (), "another one has some seconds to do it"
    await house.redis.delete(house.store.keys.transaction(family.parent.tx) + ":outbox")
    await house.pass_due(family.parent.tx, "o")
    assert (await house.due(family.parent.tx)).undelivered == ()
    assert not await family.is_due()


@covers("acknowledge", "changed since", "some stay")
async def test_a_start_stays_until_its_end_is_taken(house: House) -> None:
    family = await Family.begin(house)
    await house.store.acknowledge(family.parent.tx, 1, ())
    before = await house.due_members(family.parent.tx)
    assert max(before.values()) - await house.now_ms() > 200_000, "looked at again much later"
    assert (await family.box()).children == (family.field,)
    await house.commit(family.parent, 1, outbox=(("s/other/key", b"start"),))
    await house.refused(house.store.acknowledge(family.parent.tx, 1, (family.field,)))


@covers("lib/ending", "parent to tell")
@covers("acknowledge", "delivered", "all")
async def test_a_child_that_ended_wants_its_parent_to_be_told(house: House) -> None:
    family = await Family.begin(house)
    child = await family.start()
    over = t.NewEnd("failed", error=Failure("ValueError", "no such file"))
    await house.commit(child, end=over)
    box = await family.box(family.child)
    assert (box.outcome, box.parent) == (t.Outcome("failed", None, over.error), family.of)
    assert await family.is_due(family.child)
    await house.store.acknowledge(family.child, box.number, ("e",))
    assert not await family.is_due(family.child)
    assert (await family.box(family.child)).parent is None


@covers("deliver", "delivered", "delivered before", "taken")
@covers("commit", "end of a child taken", "no child left")
async def test_an_end_is_taken_once_however_often_it_is_delivered(house: House) -> None:
    family = await Family.begin(house)
    heard = await Heard.of(house)
    assert await family.deliver() == "delivered"
    assert await heard.since() == [t.OwnerNudge(family.parent.tx, "child")]
    await heard.close()
    assert await house.refused(family.deliver()) == "delivered"
    (end,) = await family.ends()
    assert (end.field, end.outcome) == (family.field, DONE)
    await family.take()
    assert await house.refused(family.deliver()) == "taken"
    assert (await house.loaded(family.parent)).children == ()
    assert not await family.is_due()


async def test_an_end_that_redis_lost_is_delivered_again(house: House) -> None:
    """Delivered and acknowledged; the parent's partition goes back; the slow look at its children finds the end."""
    family = await Family.begin(house)
    child = await family.start()
    await house.end(child)
    then = await house.keyspace()
    await family.deliver()
    await house.rewind(then)
    assert await family.ends() == []
    answer = await house.store.start(family.new)
    assert isinstance(answer, t.Existed)
    assert answer.outcome.status == "finished"
    assert await family.deliver() == "delivered"
    assert len(await family.ends()) == 1


async def test_an_end_whose_entry_was_lost_alone_is_delivered_again(house: House) -> None:
    family = await Family.begin(house)
    await family.deliver()
    (end,) = await family.ends()
    await house.redis.xdel(house.store.keys.transaction(family.parent.tx) + ":inbox", end.id)
    assert await family.deliver() == "delivered"
    assert len(await family.ends()) == 1


async def test_a_sleeping_parent_is_woken(house: House) -> None:
    family = await Family.begin(house)
    await house.store.release(family.parent.tx, family.parent.epoch, 1, None, idle=True)
    assert await family.deliver() == "delivered"
    assert await house.is_ready(family.parent.tx)


@covers("deliver", "missing", "over", "failed")
async def test_a_parent_that_is_gone_over_or_failed(house: House) -> None:
    family = await Family.begin(house)
    nobody = t.Parent(TxId("nowhere-to-be-found"), KEY)
    assert await house.refused(house.store.deliver(nobody, family.child, DONE)) == "gone"
    await house.end(family.parent, 1, "failed")
    assert await house.refused(family.deliver()) == "over"
    finished = await Family.begin(house)
    await house.end(finished.parent, 1)
    assert await house.refused(finished.deliver()) == "gone"


@covers("lib/ending", "children that may not be started yet", "children to cancel")
async def test_the_children_of_one_that_ends(house: House) -> None:
    """Finished: they go on, but must be started. Cancelled: they are to be cancelled. Failed: it may be retried."""
    finished, cancelled, failed = [await Family.begin(house) for _ in range(3)]
    await house.end(finished.parent, 1)
    await house.store.cancel(cancelled.parent.tx, "why")
    await house.end(cancelled.parent, 1)
    await house.end(failed.parent, 1, "failed")
    for family, cancels, due in ((finished, False, True), (cancelled, True, True), (failed, False, False)):
        box = await family.box()
        assert (box.children, box.cancels) == ((family.field,), cancels)
        assert await family.is_due() is due


@covers("retry", "children to look after")
async def test_a_retried_parent_looks_after_its_children_and_a_retried_child_is_told_of_anew(house: House) -> None:
    family = await Family.begin(house)
    child = await family.start()
    await house.end(child, status="failed")
    await house.end(family.parent, 1, "failed")
    await house.store.retry(family.parent.tx, "request")
    assert (await house.due(family.parent.tx)).undelivered == (family.parent.tx,)
    await house.store.retry(family.child, "request")
    assert (await family.box(family.child)).parent is None


@covers("cancel", "parent to tell")
async def test_a_child_that_never_ran_is_cancelled_and_its_parent_to_be_told_at_once(house: House) -> None:
    family = await Family.begin(house)
    await house.store.start(family.new)
    await house.store.cancel(family.child, "why")
    assert (await house.due(family.child)).undelivered == (family.child,)


@covers("remove", "ask its parent")
async def test_a_child_stays_until_its_parent_has_its_end(house: House) -> None:
    family = await Family.begin(house, retain_s=0)
    child = await family.start()
    await house.end(child)
    await house.pass_ms(2)
    assert await house.refused(house.store.remove(family.child)) is None
    assert await house.store.remove(family.child, taken=True)
    assert await house.store.get(family.child) is None


@covers("rouse", "nobody", "noted for its owner", "roused")
async def test_rouse(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house)
    assert await house.store.rouse(grant.tx, "permit")
    assert await heard.since() == [t.OwnerNudge(grant.tx, "permit")]
    await heard.close()
    await house.end(grant)
    assert not await house.refused(house.store.rouse(grant.tx, "permit"))
    assert not await house.refused(house.store.rouse(TxId("nowhere-to-be-found"), "permit"))
