"""Limits: permits in the order of asking, never more than there may be, given back or lost with their holder."""

from __future__ import annotations

import random
import time

import pytest

from orbit.protocol.ids import TxId
from orbit.store import types as t
from tests.contract.house import Heard, House

covers = pytest.mark.covers
ONE = t.Limit("Encode", most=1)
TWO = t.Limit("Encode", most=2)
LEASE_MS = 60_000


def ids(count: int) -> list[TxId]:
    return [TxId(f"transaction-{n:08d}") for n in range(1, count + 1)]


async def ask(house: House, limit: t.Limit, tx: TxId, lease_ms: int = LEASE_MS, priority: int = 0) -> t.Permit:
    return await house.store.permit(limit, tx, lease_ms, priority)


async def due(house: House, limit: t.Limit) -> t.DueAnswer:
    return await house.store.due(house.store.keys.partition_named(limit.name))


async def ordered(house: House, limit: t.Limit, *txs: TxId) -> None:
    """They ask one after another, each in a millisecond of its own."""
    for tx in txs:
        assert not (await ask(house, limit, tx)).held
        await house.pass_ms(1)


@covers("permit", "given", "held before", "asked")
@covers("unpermit", "given back")
@covers("lib/limits", "admitted", "some wait", "nobody waits")
async def test_as_many_as_may_and_then_one_after_another(house: House) -> None:
    a, b, c, d = ids(4)
    assert (await ask(house, TWO, a)).held
    assert (await ask(house, TWO, b)).held
    await ordered(house, TWO, c, d)
    assert await ask(house, TWO, a) == t.Permit(True, ())
    assert not (await ask(house, TWO, d)).held, "asking again brings nobody forward"
    assert await house.store.unpermit("Encode", a) == (c,)
    assert await house.store.unpermit("Encode", b) == (d,)
    assert (await ask(house, TWO, c)).held
    assert await house.store.unpermit("Encode", c) == ()
    assert await house.store.unpermit("Encode", d) == ()
    assert await house.due_members(a) == {}


async def test_a_permit_that_redis_lost_is_held_again_as_soon_as_there_is_room(house: House) -> None:
    """Its holder goes on and asks again. Where another got it meanwhile, two run until one is over; no third."""
    a, b, c = ids(3)
    before = await house.keyspace()
    assert (await ask(house, ONE, a)).held
    await house.rewind(before)
    assert (await ask(house, ONE, a)).held, "nobody asked meanwhile"
    await house.rewind(before)
    assert (await ask(house, ONE, b)).held
    await ordered(house, ONE, a, c)
    assert await house.store.unpermit("Encode", b) == (a,)
    assert (await ask(house, ONE, a)).held
    assert not (await ask(house, ONE, c)).held


async def test_who_leaves_the_queue_is_passed_over(house: House) -> None:
    a, b, c = ids(3)
    await ask(house, ONE, a)
    await ordered(house, ONE, b, c)
    assert await house.store.unpermit("Encode", b) == ()
    assert await house.store.unpermit("Encode", a) == (c,)


async def test_the_urgent_first(house: House) -> None:
    a, b, c = ids(3)
    await ask(house, ONE, a)
    await ordered(house, ONE, b)
    assert not (await ask(house, ONE, c, priority=5)).held
    assert await house.store.unpermit("Encode", a) == (c,)


@covers("due", "permit")
async def test_a_permit_that_is_not_asked_for_again_goes_to_the_next(house: House) -> None:
    a, b = ids(2)
    await ask(house, ONE, a)
    await ordered(house, ONE, b)
    partition = house.store.keys.partition(house.store.keys.partition_named(ONE.name))
    await house.redis.zadd(f"{partition}:held:Encode", {a: 1})
    await house.redis.zadd(f"{partition}:due", {"p:Encode": 1})
    assert (await due(house, ONE)).admitted == (("Encode", b),)
    assert (await ask(house, ONE, b)).held
    assert not (await ask(house, ONE, a)).held


@covers("permit", "given to others")
async def test_more_room_lets_others_in_with_the_next_that_asks(house: House) -> None:
    a, b, c = ids(3)
    await ask(house, ONE, a)
    await ordered(house, ONE, b)
    answer = await ask(house, t.Limit("Encode", most=2), c)
    assert answer == t.Permit(False, (b,))


@covers("lib/limits", "by its rate")
async def test_a_rate(house: House) -> None:
    slow = t.Limit("Encode", gap_ms=60_000)
    a, b = ids(2)
    assert (await ask(house, slow, a)).held
    assert not (await ask(house, slow, b)).held
    assert await house.store.unpermit("Encode", a) == (), "its end lets nobody begin before the time"
    answer = await due(house, slow)
    assert answer.admitted == ()
    assert answer.next_ms is not None
    assert 50_000 < answer.next_ms <= 60_000


async def test_a_quick_rate_lets_many_begin_at_once_but_not_all(house: House) -> None:
    quick = t.Limit("Encode", gap_ms=50)
    txs = ids(20)
    held: list[TxId] = []
    before = time.monotonic()
    for tx in txs:
        answer = await ask(house, quick, tx)
        held += [*answer.admitted, *((tx,) if answer.held else ())]
    asked_ms = (time.monotonic() - before) * 1000
    assert 1 <= len(held) <= 1 + (100 + asked_ms) / 50, "of a burst of 100 ms, and of the time that it took to ask"
    while (later := await due(house, quick)).next_ms is not None or later.admitted:
        held += [tx for _, tx in later.admitted]
    assert held == txs


@covers("release", "waits")
@covers("lib/wake", "no longer waits")
async def test_one_that_waits_is_pending_until_it_is_roused(house: House) -> None:
    grant = await house.run()
    waits = await house.store.release(
        grant.tx, grant.epoch, 0, None, idle=True, waits_for="Encode", timers=(("p", 30_000),)
    )
    assert waits == t.Released("pending")
    assert not await house.is_ready(grant.tx)
    shown = await house.store.get(grant.tx)
    assert shown is not None
    assert (shown.status, shown.waits) == ("pending", "Encode")
    heard = await Heard.of(house)
    await house.store.rouse(grant.tx, "permit")
    assert await heard.since() == [t.ReadyWake(house.store.partition_of(grant.tx), grant.spec)]
    await heard.close()
    again = await house.claim_one(grant.tx)
    shown = await house.store.get(again.tx)
    assert shown is not None
    assert shown.waits is None


@covers("release", "what it waits for is there")
async def test_one_that_was_roused_before_its_release_arrived_is_ready(house: House) -> None:
    """Its owner has decided that it waits; the permit is given, and the owner told; the release arrives."""
    grant = await house.run()
    await house.store.rouse(grant.tx, "permit")
    how = {"idle": True, "waits_for": "Encode", "timers": (("p", 60_000),)}
    assert await house.store.release(grant.tx, grant.epoch, 0, None, **how) == t.Released("pending")  # type: ignore[arg-type]
    assert await house.is_ready(grant.tx)
    again = await house.claim_one(grant.tx)
    await house.store.release(again.tx, again.epoch, 0, None, **how)  # type: ignore[arg-type]
    assert not await house.is_ready(grant.tx), "what was said under an epoch before counts no more"


async def test_one_that_waits_is_roused_by_a_message_a_cancel_and_its_time(house: House) -> None:
    async def waiting() -> t.Grant:
        grant = await house.run()
        how = {"idle": True, "waits_for": "Encode", "timers": (("p", 60_000),)}
        await house.store.release(grant.tx, grant.epoch, 0, None, **how)  # type: ignore[arg-type]
        return grant

    messaged, cancelled, late = await waiting(), await waiting(), await waiting()
    await house.send(messaged.tx, 1)
    await house.store.cancel(cancelled.tx, "why")
    await house.pass_due(late.tx, "t")
    await house.due(late.tx)
    for grant in (messaged, cancelled, late):
        assert await house.is_ready(grant.tx)


@pytest.mark.parametrize("most", [1, 3])
async def test_at_random_never_more_than_may_and_everybody_in_the_end(house: House, seed: int, most: int) -> None:
    rng = random.Random(seed)
    limit = t.Limit("Encode", most=most)
    waiting, held, done = set(ids(30)), set[TxId](), set[TxId]()
    while waiting or held:
        if waiting and rng.random() < 0.6:
            tx = rng.choice(sorted(waiting))
            answer = await ask(house, limit, tx)
            got = {*answer.admitted, *([tx] if answer.held else [])}
        else:
            tx = rng.choice(sorted(held or waiting))
            if tx not in held:
                continue
            held.discard(tx)
            done.add(tx)
            got = set(await house.store.unpermit("Encode", tx))
        held |= got
        waiting -= got
        assert len(held) <= most
    assert done == set(ids(30))
