"""Timers: set and dropped with a commit, entered into the inbox by due, each once."""

from __future__ import annotations

from itertools import count

import pytest

from orbit.protocol.ids import TxId
from orbit.store import types as t
from tests.contract.house import Heard, House

covers = pytest.mark.covers
TICK = "t/1/tick"


async def inbox(house: House, tx: TxId) -> tuple[t.Incoming, ...]:
    return (await house.work(tx)).incoming


def members(incoming: tuple[t.Incoming, ...]) -> list[str]:
    return [one.member for one in incoming if isinstance(one, t.FiredTimer)]


async def sleeping(house: House, *timers: tuple[str, int]) -> t.Grant:
    """A transaction that was put to sleep with these timers."""
    grant = await house.run()
    await house.commit(grant, timers=timers)
    assert await house.store.release(grant.tx, grant.epoch, 1, None, idle=True) == t.Released("idle")
    return grant


@covers("commit", "timer set", "fires while it runs, too", "timer dropped")
async def test_set_loaded_and_dropped(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, timers=((TICK, 60_000), ("s/key", 90_000)))
    loaded = await house.loaded(grant)
    assert loaded.timers.keys() == {TICK, "s/key"}
    assert 50_000 < (loaded.timers[TICK] or 0) <= 60_000
    assert f"t:{grant.tx}".encode() in await house.due_members(grant.tx)
    await house.commit(grant, 1, dropped_timers=(TICK, "never there"))
    assert (await house.loaded(grant)).timers.keys() == {"s/key"}


async def test_dropped_and_set_in_one_commit_is_set(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, timers=((TICK, 60_000),))
    await house.commit(grant, 1, dropped_timers=(TICK,), timers=((TICK, 10_000),))
    assert ((await house.loaded(grant)).timers[TICK] or 0) <= 10_000


@covers("lib/timers", "into the inbox")
@covers("due", "woken")
async def test_one_that_is_due_stands_in_the_inbox_once(house: House) -> None:
    grant = await sleeping(house, (TICK, 60_000))
    await house.due(grant.tx)
    assert await inbox(house, grant.tx) == ()
    await house.pass_due(grant.tx, "t")
    await house.due(grant.tx)
    await house.due(grant.tx)
    assert members(await inbox(house, grant.tx)) == [TICK]
    assert await house.status(grant.tx) == "pending"
    again = await house.claim_one(grant.tx)
    assert (await house.loaded(again)).timers == {TICK: None}
    (entry,) = await inbox(house, grant.tx)
    await house.commit(again, 1, consumed=(entry.id,), dropped_timers=(TICK,))
    assert await inbox(house, grant.tx) == ()
    assert (await house.loaded(again)).timers == {}


async def test_a_running_one_is_told(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, timers=((TICK, 0),))
    heard = await Heard.of(house)
    await house.due(grant.tx)
    assert t.OwnerNudge(grant.tx, "timer") in await heard.since()
    await heard.close()
    assert members(await inbox(house, grant.tx)) == [TICK]


@covers("lib/timers", "only wakes")
@covers("due", "wakes again")
async def test_what_only_wakes_goes_and_the_next_is_waited_for(house: House) -> None:
    grant = await sleeping(house, ("s/nap", 1_000), (TICK, 60_000))
    await house.redis.zadd(house.store.keys.transaction(grant.tx) + ":timers", {"s/nap": 1})
    partition = house.store.keys.partition(house.store.partition_of(grant.tx))
    await house.redis.zadd(f"{partition}:due", {f"t:{grant.tx}": 1})
    await house.due(grant.tx)
    assert await inbox(house, grant.tx) == ()
    again = await house.claim_one(grant.tx)
    assert (await house.loaded(again)).timers.keys() == {TICK}
    assert f"t:{grant.tx}".encode() in await house.due_members(grant.tx)


async def test_a_message_before_it_is_due_takes_no_timer_away(house: House) -> None:
    """Claimed between a timer's time and `due`: it fires all the same."""
    grant = await sleeping(house, (TICK, 60_000))
    await house.pass_due(grant.tx, "t")
    await house.send(grant.tx, 1)
    await house.claim_one(grant.tx)
    await house.due(grant.tx)
    assert members(await inbox(house, grant.tx)) == [TICK]


async def test_a_thousand_at_once_fire_in_their_order(house: House) -> None:
    names = [f"t/1/{n:04}" for n in range(1_000)]
    grant = await house.run()
    await house.commit(grant, timers=tuple((name, at) for at, name in enumerate(names)))
    await house.pass_ms(1_000)
    while f"t:{grant.tx}".encode() in await house.due_members(grant.tx):
        await house.due(grant.tx)
    assert members((await house.work(grant.tx, limit=2_000)).incoming) == names


@covers("lib/ending", "its inbox entry is gone")
@covers("retry", "timers go on")
async def test_a_failed_one_that_is_retried_has_its_timers(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, timers=((TICK, 0), ("t/2/later", 60_000)))
    await house.due(grant.tx)
    await house.end(grant, 1, "failed")
    assert set(await house.due_members(grant.tx)) == {f"r:{grant.tx}".encode()}
    await house.store.retry(grant.tx, "request")
    await house.due(grant.tx)
    assert members(await inbox(house, grant.tx)) == [TICK]
    again = await house.claim_one(grant.tx)
    assert (await house.loaded(again)).timers.keys() == {TICK, "t/2/later"}


async def test_a_finished_one_has_none(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, timers=((TICK, 60_000),))
    await house.end(grant, 1)
    assert set(await house.due_members(grant.tx)) == {f"r:{grant.tx}".encode()}
    assert not await house.redis.exists(house.store.keys.transaction(grant.tx) + ":timers")


async def test_a_start_at_a_time(house: House) -> None:
    now = await house.now_ms()
    tx = await house.begin(at_ms=now + 60_000, delay_s=5)
    assert await house.due_members(tx) == {f"t:{tx}".encode(): now + 60_000}
    assert await house.is_ready(await house.begin(at_ms=now - 60_000))


async def test_a_delayed_start_is_not_begun_by_a_message(house: House) -> None:
    tx = await house.begin(delay_s=60)
    await house.send(tx, 1)
    assert not await house.is_ready(tx)


async def test_all_that_wake_at_once_are_announced_once(house: House) -> None:
    """One announcement makes a worker look: a thousand more, of a thousand sleepers, would only cost."""
    first = await sleeping(house, ("s/key", 60_000))
    partition = house.store.partition_of(first.tx)
    same = (TxId(f"{first.tx[:16]}{n}") for n in count())
    tx = next(tx for tx in same if house.store.partition_of(tx) == partition)
    second = await house.run(tx=tx)
    await house.commit(second, timers=(("s/key", 60_000),))
    await house.store.release(tx, second.epoch, 1, None, idle=True)
    for one in (first.tx, tx):
        await house.pass_due(one, "t")
    heard = await Heard.of(house)
    await house.due(tx)
    told = [wake for wake in await heard.since() if isinstance(wake, t.ReadyWake)]
    assert told == [t.ReadyWake(partition, first.spec)]
    await heard.close()
    assert await house.is_ready(first.tx)
    assert await house.is_ready(tx)
