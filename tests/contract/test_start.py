from __future__ import annotations

import pytest

from orbit.protocol.cursors import START
from orbit.store import types as t
from tests.contract.house import SPEC, Heard, House

covers = pytest.mark.covers


@covers("start", "ready")
@covers("lib/wake", "announced")
async def test_a_start_is_ready_and_says_so(house: House) -> None:
    heard = await Heard.of(house)
    tx = await house.begin()
    assert await house.is_ready(tx)
    assert await heard.since() == [t.ReadyWake(house.store.partition_of(tx), SPEC)]
    await heard.close()

    transaction = await house.store.get(tx)
    assert transaction is not None
    assert (transaction.status, transaction.number, transaction.head) == ("pending", 0, START)
    assert (transaction.state, transaction.version, transaction.queue) == ("Demo", 1, "default")
    assert transaction.started_ms is None
    assert transaction.ended_ms is None
    assert len(transaction.epoch) == 19


@covers("start", "existed")
async def test_the_same_start_again_changes_nothing(house: House) -> None:
    new = house.new()
    await house.store.start(new)
    assert await house.refused(house.store.start(new)) == t.Existed(new.tx, t.Outcome("pending"))


@covers("start", "taken")
async def test_another_start_under_the_same_id_is_told_so(house: House) -> None:
    new = house.new(body_digest="one")
    await house.store.start(new)
    other = house.new(tx=new.tx, body_digest="two", fields=b"{}")
    assert await house.refused(house.store.start(other)) == t.Taken(new.tx)


@covers("start", "delayed")
@covers("due", "delay over")
@covers("lib/wake", "earliest")
async def test_a_delayed_start_waits_in_due(house: House) -> None:
    heard = await Heard.of(house)
    tx = await house.begin(delay_s=60)
    assert await heard.since() == [t.DueWake(house.store.partition_of(tx), 60_000)]
    assert await house.status(tx) == "pending"
    assert await house.claim(tx) == ()

    await house.pass_due(tx, "t")
    assert (await house.due(tx)).done == 1
    assert await heard.since() == [t.ReadyWake(house.store.partition_of(tx), SPEC)]
    await heard.close()
    assert (await house.claim_one(tx)).number == 0


async def test_a_message_does_not_hurry_a_delayed_start(house: House) -> None:
    tx = await house.begin(delay_s=60)
    await house.send(tx, 1)
    assert not await house.is_ready(tx)


async def test_the_first_snapshot_is_what_was_given(house: House) -> None:
    grant = await house.run(fields=b'{"\xc3\xa9":1}')
    loaded = await house.store.load(grant.tx, grant.epoch)
    assert isinstance(loaded, t.Loaded)
    assert loaded.snapshot == t.Snapshot(1, b'{"\xc3\xa9":1}', 0, START)


async def test_priorities_beat_age(house: House) -> None:
    old = await house.begin()
    urgent = house.new(priority=1)
    while house.store.partition_of(urgent.tx) != house.store.partition_of(old):
        urgent = house.new(priority=1)
    await house.store.start(urgent)
    assert [grant.tx for grant in await house.claim(old)] == [urgent.tx, old]
