from __future__ import annotations

import pytest

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import EndEntry, Failure, LiveMessage, LogPage, UpdateEntry
from orbit.store import types as t
from tests.contract.house import ANN, Heard, House, place

covers = pytest.mark.covers


async def failed(house: House) -> t.Grant:
    """A transaction that has failed, after one update and a snapshot."""
    grant = await house.run()
    answer = await house.commit(grant, 0, entries=(t.NewUpdate(b"one"),), snapshot=b"fields", attempts=2)
    assert isinstance(answer, t.Done)
    error = t.NewEnd("failed", error=Failure("ValueError", "it broke"), trace="where")
    assert isinstance(await house.commit(grant, 1, end=error), t.Done)
    return grant


@covers("retry", "missing")
async def test_no_transaction(house: House) -> None:
    assert await house.refused(house.store.retry(house.new().tx, "r1")) == t.Missing()


@covers("retry", "not failed")
@pytest.mark.parametrize("status", ["finished", "cancelled"])
async def test_only_a_failed_one_is_retried(house: House, status: str) -> None:
    grant = await house.run()
    assert await house.refused(house.store.retry(grant.tx, "r1")) == t.NotFailed("running")
    await house.end(grant, status=status)
    assert await house.refused(house.store.retry(grant.tx, "r1")) == t.NotFailed(status)


@covers("retry", "retried")
async def test_it_goes_on_from_its_last_snapshot(house: House) -> None:
    before = await failed(house)
    ended = await house.store.get(before.tx)
    assert ended is not None
    heard = await Heard.of(house, before.tx)
    assert await house.store.retry(before.tx, "r1") == t.Retried("pending")

    after = await house.store.get(before.tx)
    assert after is not None
    assert (after.status, after.number, after.head) == ("pending", 3, ended.head)
    assert (after.attempts, after.crashes, after.error, after.trace, after.ended_ms) == (0, 0, None, None, None)
    assert after.epoch > ended.epoch
    assert LiveMessage(3, after.epoch, 2, ended.head, (), ended.head, "pending") in await heard.live()
    await heard.close()
    assert set(await house.due_members(before.tx)) == set()
    assert (await house.store.changed_since(house.store.partition_of(before.tx), 0))[1] == {before.tx: 3}

    grant = await house.claim_one(before.tx)
    assert grant.epoch > after.epoch
    loaded = await house.store.load(grant.tx, grant.epoch)
    assert isinstance(loaded, t.Loaded)
    assert (loaded.snapshot.fields, loaded.number, loaded.attempts) == (b"fields", 3, 0)
    await house.write(grant, 3, b"two")
    page = await house.store.read_log(grant.tx, Cursor(0, ended.head.epoch), 10)
    entries = await house.log(grant.tx)
    assert [type(entry) for entry in entries] == [UpdateEntry, EndEntry, UpdateEntry]
    assert not isinstance(page, LogPage) or page.status == "running"


@covers("retry", "retried before")
async def test_a_retry_whose_answer_was_lost_is_done_once(house: House) -> None:
    """Asked, answer lost, asked again: by then it may have been claimed, or have failed anew."""
    grant = await failed(house)
    await house.store.retry(grant.tx, "r1")
    assert await house.refused(house.store.retry(grant.tx, "r1")) == t.Retried("pending")
    again = await house.claim_one(grant.tx)
    await house.end(again, 3, "failed")
    assert await house.refused(house.store.retry(grant.tx, "r1")) == t.Retried("failed")
    assert await house.store.retry(grant.tx, "r2") == t.Retried("pending")


async def test_who_held_it_before_is_refused(house: House) -> None:
    """Its ending commit's reply was lost; the transaction is retried; then the commit is sent again."""
    grant = await failed(house)
    await house.store.retry(grant.tx, "r1")
    assert await house.refused(house.commit(grant, 1, end=t.NewEnd("failed"))) == t.Fenced()


async def test_a_session_that_left_after_the_end_is_told_as_gone(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    assert isinstance(await house.commit(grant, 0, told=((ANN, str(place())),)), t.Done)
    await house.end(grant, 1, "failed")
    assert await house.store.detach(grant.tx, ANN, place())
    await house.store.retry(grant.tx, "r1")
    again = await house.claim_one(grant.tx)
    await house.forget_times(again.tx, ":changes")
    assert (await house.work(again.tx)).changes == (t.SessionChange(ANN, "", str(place()), None),)


async def test_a_session_that_comes_back_after_a_retry_is_told_as_resumed(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    assert isinstance(await house.commit(grant, 0, told=((ANN, str(place())),)), t.Done)
    await house.end(grant, 1, "failed")
    await house.store.detach(grant.tx, ANN, place())
    await house.store.retry(grant.tx, "r1")
    there = t.Place("e2", "c", "1")
    await house.attach(grant.tx, at=there)
    assert await house.is_ready(grant.tx)
    again = await house.claim_one(grant.tx)
    assert (await house.work(again.tx)).changes == (t.SessionChange(ANN, str(there), str(place()), None),)
