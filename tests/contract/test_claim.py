from __future__ import annotations

from dataclasses import replace

import pytest

from orbit.protocol.ids import TxId
from orbit.store import types as t
from tests.contract.house import ANN, LEASE_MS, SPEC, House, place

covers = pytest.mark.covers


@covers("claim", "granted")
async def test_a_grant_is_a_lease_and_a_new_epoch(house: House) -> None:
    tx = await house.begin()
    first = await house.store.get(tx)
    grant = await house.claim_one(tx)
    assert grant == t.Grant(tx, grant.epoch, 0, SPEC, False)
    assert first is not None
    assert grant.epoch > first.epoch
    assert len(grant.epoch) == 19

    transaction = await house.store.get(tx)
    assert transaction is not None
    assert (transaction.status, transaction.owner, transaction.epoch) == ("running", "w1", grant.epoch)
    assert transaction.started_ms is not None
    (lease,) = (await house.due_members(tx)).values()
    assert 0 <= LEASE_MS - (lease - transaction.started_ms) < 60_000
    assert await house.claim(tx, "w2") == ()


@covers("claim", "nothing")
async def test_nothing_to_claim_writes_nothing(house: House) -> None:
    tx = await house.begin()
    assert await house.refused(house.claim(tx, specs=[t.Spec("default", "Demo", 2)])) == ()
    assert await house.refused(house.claim(tx, room=0)) == ()
    assert await house.refused(house.claim(tx, specs=[])) == ()


async def test_an_epoch_is_larger_than_the_last_even_when_the_clock_went_back(house: House) -> None:
    tx = await house.begin()
    await house.redis.hset(house.store.keys.transaction(tx), "epoch", "9000000000000000999")
    assert (await house.claim_one(tx)).epoch.startswith("9000000000000001")


@covers("claim", "crashed")
@covers("due", "lease expired")
async def test_a_lease_that_ran_out_counts_a_crash(house: House) -> None:
    grant = await house.run()
    await house.expire_lease(grant.tx)
    await house.due(grant.tx)
    again = await house.claim_one(grant.tx, "w2")
    assert again.crashed
    assert again.epoch > grant.epoch
    assert (await house.store.get(grant.tx)).crashes == 1  # type: ignore[union-attr]
    assert await house.refused(house.commit(grant)) == t.Fenced()


async def test_a_release_counts_no_crash(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=False)
    assert not (await house.claim_one(grant.tx)).crashed
    assert (await house.store.get(grant.tx)).crashes == 0  # type: ignore[union-attr]


@covers("claim", "repeated", "repeated and still held")
async def test_the_same_request_again_gets_the_same_grants(house: House) -> None:
    tx = await house.begin()
    grants = await house.claim(tx, request="lost", lease_ms=60_000)
    before = await house.due_members(tx)
    assert len(grants) == 1
    await house.pass_ms(2)
    assert await house.claim(tx, request="lost", lease_ms=60_000) == grants
    after = await house.due_members(tx)
    assert after.keys() == before.keys()
    assert list(after.values()) > list(before.values())
    assert await house.claim(tx, "w2", request="lost") == ()


async def test_of_a_repeated_request_only_what_is_still_held_is_granted(house: House) -> None:
    grants = [await house.begin() for _ in range(6)]
    partition = house.store.partition_of(grants[0])
    mine = [tx for tx in grants if house.store.partition_of(tx) == partition]
    held = await house.claim(mine[0], request="lost")
    assert {grant.tx for grant in held} == set(mine)
    released = held[0]
    await house.store.release(released.tx, released.epoch, 0, None, idle=False)
    await house.claim_one(released.tx, "w2")
    assert await house.refused(house.claim(mine[0], request="another")) == ()
    again = await house.claim(mine[0], request="lost")
    assert again == held[1:]


@covers("claim", "stale")
async def test_what_should_not_be_ready_is_not_granted(house: House) -> None:
    running = await house.run()
    ended = await house.run()
    await house.end(ended)
    for tx in (running.tx, ended.tx, TxId("nowhere-to-be-found")):
        partition = house.store.partition_of(running.tx)
        await house.redis.zadd(house.store.keys.ready(partition, SPEC), {tx: 1})
    assert await house.claim(running.tx, "w2") == ()
    assert not await house.is_ready(running.tx)


async def test_a_wake_time_that_lies_ahead_is_told_with_the_load(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=True, timers=(("r", 60_000),))
    await house.send(grant.tx, 1)
    again = await house.claim_one(grant.tx)
    loaded = await house.store.load(again.tx, again.epoch)
    assert isinstance(loaded, t.Loaded)
    left_ms = loaded.timers["r"]
    assert left_ms is not None
    assert 0 < left_ms <= 60_000


async def test_no_more_than_there_is_room_for_and_fair_between_sets(house: House) -> None:
    other = t.Spec("default", "Other", 1)
    first = await house.begin()
    partition = house.store.partition_of(first)
    txs = {SPEC: [first], other: list[TxId]()}
    while min(map(len, txs.values())) < 3:
        spec = SPEC if len(txs[SPEC]) < 3 else other
        new = house.new(state=spec.state)
        if house.store.partition_of(new.tx) == partition:
            await house.store.start(new)
            txs[spec].append(new.tx)
    grants = await house.claim(first, room=4, specs=[SPEC, other])
    assert sorted(grant.spec.state for grant in grants) == ["Demo", "Demo", "Other", "Other"]
    assert {grant.tx for grant in grants} == {*txs[SPEC][:2], *txs[other][:2]}


async def test_how_many_wait_for_a_worker(house: House) -> None:
    other = t.Spec("other", "Demo", 1)
    first = await house.begin()
    await house.begin()
    await house.begin(queue="other")
    assert await house.store.ready_counts([SPEC, other]) == {SPEC: 2, other: 1}
    await house.claim_one(first)
    assert (await house.store.ready_counts({SPEC}))[SPEC] < 2
    assert await house.store.ready_counts([]) == {}


async def test_a_claim_brings_along_what_load_would_say(house: House) -> None:
    tx = await house.begin(fields=b'{"n":7}')
    grant = await house.claim_one(tx)
    loaded = await house.loaded(grant)
    assert grant.loaded is not None
    assert replace(grant.loaded, elapsed_ms=0) == replace(loaded, elapsed_ms=0)
    assert grant.quiet
    await house.write(grant, 0, b"u")
    await house.send(tx, 1)
    await house.store.release(tx, grant.epoch, 1, None, idle=False)
    again = await house.claim_one(tx)
    assert again.loaded is not None
    assert (again.loaded.number, again.quiet) == (1, False)


async def test_a_change_that_is_due_later_is_something_to_attend_to(house: House) -> None:
    """A worker is lost while a session's disconnect waits for its grace: nothing else would tell the next worker."""
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.detach(grant.tx, ANN, place())
    await house.expire_lease(grant.tx)
    await house.due(grant.tx)
    again = await house.claim_one(grant.tx)
    assert again.loaded is not None
    assert not again.quiet


@covers("lib/loading", "too large")
async def test_a_large_one_is_loaded_by_itself(house: House) -> None:
    grant = await house.claim_one(await house.begin(fields=b"x" * 100_000))
    assert grant.loaded is None
    assert (await house.loaded(grant)).snapshot.fields == b"x" * 100_000
