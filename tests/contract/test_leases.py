"""renew, release, due."""

from __future__ import annotations

from typing import Any

import pytest

from orbit.protocol.ids import InboxId, TxId
from orbit.store import types as t
from tests.contract.house import ANN, LEASE_MS, Heard, House, place

covers = pytest.mark.covers


async def renew(house: House, grant: t.Grant, number: int = 0, worker: str = "w1") -> t.Renewal:
    held = t.Held(grant.tx, grant.epoch, number)
    return await house.store.renew(house.store.partition_of(grant.tx), worker, [held], 2 * LEASE_MS)


def lost(grant: t.Grant) -> t.Renewal:
    return t.Renewal(frozenset({grant.tx}), frozenset(), frozenset())


HELD = t.Renewal(frozenset(), frozenset(), frozenset())


# ---- renew


@covers("renew", "held")
async def test_a_lease_is_extended(house: House) -> None:
    grant = await house.run()
    before = await house.due_members(grant.tx)
    assert await renew(house, grant) == HELD
    after = await house.due_members(grant.tx)
    assert after.keys() == before.keys()
    assert max(after.values()) - max(before.values()) >= LEASE_MS


@covers("renew", "missing")
async def test_a_vanished_one_is_lost(house: House) -> None:
    grant = await house.run()
    await house.redis.delete(house.store.keys.transaction(grant.tx))
    assert await house.refused(renew(house, grant)) == lost(grant)


@covers("renew", "another epoch")
async def test_one_that_another_holds_is_lost(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=False)
    await house.claim_one(grant.tx, "w2")
    assert await house.refused(renew(house, grant)) == lost(grant)


@covers("renew", "released")
async def test_one_that_was_released_is_lost(house: House) -> None:
    grant = await house.run()
    assert await house.refused(renew(house, grant, worker="w2")) == lost(grant)
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=True)
    assert await house.refused(renew(house, grant)) == lost(grant)


async def test_one_that_ended_is_lost(house: House) -> None:
    grant = await house.run()
    await house.end(grant)
    assert await house.refused(renew(house, grant)) == lost(grant)


@covers("renew", "rewound")
async def test_a_lower_number_is_a_rewind(house: House) -> None:
    grant = await house.run()
    then = await house.keyspace()
    await house.write(grant, 0, b"u")
    await house.rewind(then)
    assert await house.refused(renew(house, grant, 1)) == lost(grant)


async def test_a_higher_number_is_a_commit_under_way(house: House) -> None:
    grant = await house.run()
    await house.write(grant, 0, b"u")
    assert await renew(house, grant, 0) == HELD


@covers("renew", "taken back")
async def test_a_renewal_takes_back_what_due_made_ready(house: House) -> None:
    grant = await house.run()
    await house.expire_lease(grant.tx)
    await house.due(grant.tx)
    assert await house.is_ready(grant.tx)
    assert await renew(house, grant) == HELD
    assert not await house.is_ready(grant.tx)
    assert set(await house.due_members(grant.tx)) == {f"l:{grant.tx}".encode()}
    assert await house.claim(grant.tx, "w2") == ()


@covers("renew", "waiting", "cancelled")
async def test_a_renewal_says_what_waits(house: House) -> None:
    grant, changed = await house.run(), await house.run()
    await house.send(grant.tx, 1)
    assert await renew(house, grant) == t.Renewal(frozenset(), frozenset({grant.tx}), frozenset())
    await house.store.cancel(grant.tx, "why")
    assert await renew(house, grant) == t.Renewal(frozenset(), frozenset({grant.tx}), frozenset({grant.tx}))
    await house.attach(changed.tx)
    assert (await renew(house, changed)).waiting == {changed.tx}


async def test_of_several_each_is_judged_alone(house: House) -> None:
    grants = [await house.run() for _ in range(6)]
    partition = house.store.partition_of(grants[0].tx)
    mine = [grant for grant in grants if house.store.partition_of(grant.tx) == partition]
    await house.end(mine[1])
    held = [t.Held(grant.tx, grant.epoch, 0) for grant in mine]
    assert (await house.store.renew(partition, "w1", held, LEASE_MS)).lost == {mine[1].tx}
    assert await house.store.renew(partition, "w1", [], LEASE_MS) == HELD


# ---- release


async def release(house: House, grant: t.Grant, number: int = 0, last: InboxId | None = None, **how: Any) -> object:
    return await house.store.release(grant.tx, grant.epoch, number, last, **({"idle": True} | how))


@covers("release", "vanished")
async def test_nothing_to_release(house: House) -> None:
    grant = await house.run()
    await house.redis.delete(house.store.keys.transaction(grant.tx))
    assert await house.refused(release(house, grant)) == t.Vanished()


@covers("release", "fenced")
async def test_another_s_is_not_released(house: House) -> None:
    grant = await house.run()
    await release(house, grant, idle=False)
    await house.claim_one(grant.tx, "w2")
    assert await house.refused(release(house, grant)) == t.Fenced()
    ended = await house.run()
    await house.end(ended)
    assert await house.refused(release(house, ended)) == t.Fenced()


@covers("release", "asleep", "quiet", "nothing to wake for")
@covers("release", "released before")
async def test_what_has_nothing_to_do_sleeps(house: House) -> None:
    grant = await house.run()
    assert await release(house, grant) == t.Released("idle")
    assert await house.refused(release(house, grant)) == t.Released("idle")
    assert await house.status(grant.tx) == "idle"
    assert await house.due_members(grant.tx) == {}
    assert not await house.is_ready(grant.tx)


@covers("release", "handed over")
async def test_a_hand_over_is_ready_at_once(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house)
    assert await release(house, grant, idle=False) == t.Released("pending")
    assert await heard.since() == [t.ReadyWake(house.store.partition_of(grant.tx), grant.spec)]
    await heard.close()
    again = await house.claim_one(grant.tx, "w2")
    assert again.epoch > grant.epoch
    assert not again.crashed


@covers("release", "another number")
async def test_another_number_is_a_rewind_and_ready_at_once(house: House) -> None:
    grant = await house.run()
    assert await release(house, grant, 1, timers=(("r", 60_000),)) == t.Released("pending")
    assert await house.is_ready(grant.tx)


@covers("release", "cancelled")
async def test_a_cancel_that_was_not_seen_wakes(house: House) -> None:
    grant = await house.run()
    await house.store.cancel(grant.tx, "why")
    assert await release(house, grant) == t.Released("pending")
    assert await house.is_ready(grant.tx)


@covers("release", "unread")
async def test_a_message_that_was_not_seen_wakes(house: House) -> None:
    grant = await house.run()
    await house.send(grant.tx, 1)
    assert await release(house, grant) == t.Released("pending")
    again = await house.claim_one(grant.tx)
    (first,) = (await house.work(again.tx)).incoming
    assert await release(house, again, last=first.id) == t.Released("idle"), "it was seen: it waits for a later turn"
    await house.send(grant.tx, 2)
    third = await house.claim_one(grant.tx)
    assert await release(house, third, last=first.id) == t.Released("pending")


async def test_another_message_at_the_place_of_the_last_one_wakes(house: House) -> None:
    grant = await house.run()
    then = await house.keyspace()
    await house.send(grant.tx, 1)
    (first,) = (await house.work(grant.tx)).incoming
    await house.rewind(then)
    await house.send(grant.tx, 1, data=b"other")
    assert await release(house, grant, last=first.id) == t.Released("pending")


@covers("release", "the last one seen is lost")
async def test_another_message_before_the_place_of_the_last_one_wakes(house: House) -> None:
    """Two were seen and kept for later, as `wait_message` does; both are lost, and one came since that nobody saw."""
    grant = await house.run()
    then = await house.keyspace()
    await house.send(grant.tx, 1)
    await house.send(grant.tx, 2)
    last = (await house.work(grant.tx)).incoming[-1].id
    await house.rewind(then)
    await house.send(grant.tx, 1, data=b"other")
    assert await release(house, grant, last=last) == t.Released("pending")


@covers("release", "change")
async def test_a_change_wakes_when_it_is_due(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    assert await release(house, grant) == t.Released("pending"), "the State isn't told of it yet"

    grant = await house.claim_one(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.detach(grant.tx, ANN, place())
    assert await release(house, grant, 1) == t.Released("idle")
    (due,) = await house.due_members(grant.tx)
    assert due == f"t:{grant.tx}".encode()


@covers("release", "timer")
@covers("lib/timers", "wakes by then")
async def test_a_wake_time(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house)
    assert await release(house, grant, timers=(("r", 60_000),)) == t.Released("idle")
    assert await heard.since() == [t.DueWake(house.store.partition_of(grant.tx), 60_000)]
    await heard.close()
    await house.pass_due(grant.tx, "t")
    await house.due(grant.tx)
    assert await house.status(grant.tx) == "pending"
    assert await house.is_ready(grant.tx)


async def test_a_wake_time_that_is_now(house: House) -> None:
    grant = await house.run()
    assert await release(house, grant, timers=(("r", 0),)) == t.Released("pending")
    assert await house.is_ready(grant.tx)


async def test_a_release_takes_back_what_due_made_ready(house: House) -> None:
    grant = await house.run()
    await house.expire_lease(grant.tx)
    await house.due(grant.tx)
    assert await release(house, grant) == t.Released("idle")
    assert not await house.is_ready(grant.tx)


# ---- due


@covers("due", "next told")
async def test_due_says_when_it_is_needed_next(house: House) -> None:
    tx = await house.begin(delay_s=60)
    heard = await Heard.of(house)
    answer = await house.refused(house.due(tx))
    (told,) = await heard.since()
    await heard.close()
    assert told == t.DueWake(house.store.partition_of(tx), answer.next_ms), "the others hear it, too"
    assert answer.next_ms is not None
    assert 50_000 < answer.next_ms <= 60_000
    await house.pass_due(tx, "t")
    answer = await house.due(tx)
    assert (answer.next_ms, answer.done) == (None, 1)


async def test_due_does_no_more_than_asked_for(house: House) -> None:
    txs = [await house.begin(delay_s=60) for _ in range(6)]
    partition = house.store.partition_of(txs[0])
    mine = [tx for tx in txs if house.store.partition_of(tx) == partition]
    for tx in mine:
        await house.pass_due(tx, "t")
    answer = await house.store.due(partition, limit=1)
    assert (answer.next_ms, answer.done) == (0, 1)
    assert (await house.store.due(partition)).done == len(mine) - 1


async def test_an_expired_lease_stays_in_meta(house: House) -> None:
    grant = await house.run()
    await house.expire_lease(grant.tx)
    heard = await Heard.of(house)
    await house.due(grant.tx)
    assert await heard.since() == [t.ReadyWake(house.store.partition_of(grant.tx), grant.spec)]
    await heard.close()
    assert await house.status(grant.tx) == "running"
    assert (await house.store.get(grant.tx)).owner == "w1"  # type: ignore[union-attr]


@covers("due", "lease extended")
async def test_a_lease_that_was_extended_is_not_expired(house: House) -> None:
    grant = await house.run()
    await house.pass_due(grant.tx, "l")
    await house.due(grant.tx)
    assert not await house.is_ready(grant.tx)
    assert max((await house.due_members(grant.tx)).values()) > await house.now_ms()


@covers("due", "lease of none")
async def test_a_lease_of_what_does_not_run(house: House) -> None:
    grant = await house.run()
    await house.pass_due(grant.tx, "l")
    await house.redis.delete(house.store.keys.transaction(grant.tx))
    await house.due(grant.tx)
    assert await house.due_members(grant.tx) == {}


async def test_a_wake_time_of_a_running_one_nudges_its_owner(house: House) -> None:
    grant = await house.run()
    await release(house, grant, timers=(("r", 60_000),))
    await house.send(grant.tx, 1)
    await house.claim_one(grant.tx)
    await house.pass_due(grant.tx, "t")
    heard = await Heard.of(house)
    await house.due(grant.tx)
    nudge, _next = await heard.since()
    assert nudge == t.OwnerNudge(grant.tx, "timer")
    await heard.close()


@covers("due", "nothing to wake")
async def test_a_wake_time_of_what_is_over_or_gone(house: House) -> None:
    grant = await house.run()
    await house.end(grant)
    gone = TxId("nowhere-to-be-found")
    key = house.store.keys.partition(house.store.partition_of(grant.tx)) + ":due"
    await house.redis.zadd(key, {f"t:{grant.tx}": 1, f"t:{gone}": 1})
    assert (await house.due(grant.tx)).done == 2
    assert await house.status(grant.tx) == "finished"
    assert set(await house.due_members(grant.tx)) == {f"r:{grant.tx}".encode()}
    assert await house.redis.zscore(key, f"t:{gone}") is None


@covers("due", "removable", "removed already")
@covers("remove", "removed", "not over", "not yet")
async def test_an_ended_one_is_removed_whole_after_its_retention(house: House) -> None:
    empty = await house.keyspace()
    assert not await house.refused(house.store.remove(TxId("nowhere-to-be-found")))
    grant = await house.run(retain_s=60)
    await house.attach(grant.tx)
    await house.send(grant.tx, 1)
    await house.store.append(grant.tx, t.NewMessage(b"data", key="key"))
    assert not await house.refused(house.store.remove(grant.tx))
    await house.commit(grant, snapshot=b"{}", view=b"v", names=(("name", b"value"),), told=((ANN, str(place())),))
    await house.end(grant, 1, "failed")
    assert not await house.refused(house.store.remove(grant.tx))
    await house.store.detach(grant.tx, ANN, place())

    await house.redis.hset(house.store.keys.transaction(grant.tx), "retain", "-1")
    await house.pass_due(grant.tx, "r")
    assert (await house.due(grant.tx)).removable == (grant.tx,)
    assert (await house.due(grant.tx)).removable == (), "another one has a minute to remove it"
    assert await house.store.remove(grant.tx)
    partition = house.store.keys.partition(house.store.partition_of(grant.tx))
    left = {key for key in await house.keyspace() if b":claims:" not in key}
    assert left == set(empty)

    await house.redis.zadd(f"{partition}:due", {f"r:{grant.tx}": 1})
    answer = await house.due(grant.tx)
    assert (answer.next_ms, answer.removable, answer.done) == (None, (), 1)


async def test_due_forgets_commits_of_long_ago(house: House) -> None:
    grant = await house.run()
    await house.write(grant, 0, b"u")
    key = house.store.keys.partition(house.store.partition_of(grant.tx)) + ":recent"
    assert await house.redis.zcard(key) == 1
    await house.redis.zadd(key, {grant.tx: 1})
    await house.due(grant.tx)
    assert await house.redis.zcard(key) == 0
