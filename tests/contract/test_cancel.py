from __future__ import annotations

import pytest

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import EndEntry, LiveMessage, RefusalEntry
from orbit.protocol.ids import Epoch
from orbit.store import types as t
from tests.contract.house import Heard, House

covers = pytest.mark.covers


@covers("cancel", "missing")
async def test_no_transaction(house: House) -> None:
    assert await house.refused(house.store.cancel(house.new().tx, "why")) == t.Missing()


@covers("cancel", "over")
async def test_an_ended_one(house: House) -> None:
    grant = await house.run()
    await house.end(grant)
    assert await house.refused(house.store.cancel(grant.tx, "why")) == t.Over("finished")


@covers("cancel", "never ran")
async def test_what_never_ran_ends_at_once_under_a_new_epoch(house: House) -> None:
    tx = await house.begin()
    await house.send(tx, 1)
    before = await house.store.get(tx)
    heard = await Heard.of(house, tx)
    assert await house.store.cancel(tx, "why") == t.CancelSet("cancelled")

    after = await house.store.get(tx)
    assert before is not None
    assert after is not None
    assert (after.status, after.cancel_reason, after.number) == ("cancelled", "why", 1)
    assert after.epoch > before.epoch
    assert after.ended_ms is not None
    log = await house.log(tx)
    refusal, end = log
    assert isinstance(refusal, RefusalEntry)
    assert (refusal.mid, refusal.code) == (1, "ended")
    assert end == EndEntry(Cursor(2, after.epoch), "cancelled")
    assert await heard.live() == [
        LiveMessage(1, after.epoch, 0, Cursor(0, Epoch("")), log, end.cursor, "cancelled")
    ]
    await heard.close()
    assert not await house.is_ready(tx)
    assert await house.claim(tx) == ()
    assert set(await house.due_members(tx)) == {f"r:{tx}".encode()}
    assert (await house.store.changed_since(house.store.partition_of(tx), 0))[1] == {tx: 1}


async def test_a_delayed_start_is_cancelled_at_once(house: House) -> None:
    tx = await house.begin(delay_s=60)
    assert await house.store.cancel(tx, "why") == t.CancelSet("cancelled")
    assert set(await house.due_members(tx)) == {f"r:{tx}".encode()}


@covers("cancel", "running, idle, or waits", "set before")
async def test_a_running_one_is_flagged_and_its_owner_told(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house)
    assert await house.store.cancel(grant.tx, "why") == t.CancelSet("running")
    assert await heard.since() == [t.OwnerNudge(grant.tx, "cancel")]
    await heard.close()
    assert await house.refused(house.store.cancel(grant.tx, "another reason")) == t.CancelSet("running")
    assert (await house.work(grant.tx)).cancel == "why"
    assert (await house.write(grant, 0, b"u")).cancel == "why"


async def test_a_cancel_is_no_commit(house: House) -> None:
    grant = await house.run()
    await house.store.cancel(grant.tx, "")
    assert (await house.store.get(grant.tx)).number == 0  # type: ignore[union-attr]
    assert (await house.write(grant, 0, b"u")).cancel == ""


async def test_an_idle_one_is_woken(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=True)
    assert await house.store.cancel(grant.tx, "why") == t.CancelSet("pending")
    assert (await house.claim_one(grant.tx)).epoch > grant.epoch


@covers("cancel", "pending")
async def test_one_that_waits_for_its_retry_is_woken(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=False, timers=(("r", 60_000),))
    assert await house.store.cancel(grant.tx, "why") == t.CancelSet("pending")
    assert await house.is_ready(grant.tx)
    assert await house.due_members(grant.tx) == {}
