"""Schedules: recorded once, fired once, whoever notes it."""

from __future__ import annotations

import pytest

from orbit.store import types as t
from tests.contract.house import House

covers = pytest.mark.covers
NAME = "nightly report"


async def due(house: House) -> t.DueAnswer:
    return await house.store.due(house.store.keys.partition_named(NAME))


@covers("schedule", "recorded", "the same")
async def test_said_again_it_changes_nothing(house: House) -> None:
    later = await house.now_ms() + 60_000
    assert await house.store.schedule(NAME, "record", later)
    assert not await house.refused(house.store.schedule(NAME, "record", later + 1))
    assert await house.store.schedules() == (t.ScheduleRow(NAME, "record", later),)
    assert await house.store.schedule(NAME, "another", later + 1)
    assert await house.store.schedule_named(NAME) == t.ScheduleRow(NAME, "another", later + 1)
    assert await house.store.schedule_named("none") is None


@covers("due", "fires")
@covers("fire", "next", "another one")
async def test_it_fires_is_told_again_until_it_is_noted_and_noted_once(house: House) -> None:
    now = await house.now_ms()
    await house.store.schedule(NAME, "record", now)
    assert (await due(house)).fires == ((NAME, now),)
    assert (await due(house)).fires == (), "another one has some seconds to do it"
    row = t.ScheduleRow(NAME, "record", now)
    assert await house.store.fired(row, now + 60_000)
    assert not await house.refused(house.store.fired(row, now + 60_000))
    assert await house.store.schedule_named(NAME) == t.ScheduleRow(NAME, "record", now + 60_000)
    answer = await due(house)
    assert answer.fires == ()
    assert answer.next_ms is not None
    assert 50_000 < answer.next_ms <= 60_000


async def test_one_that_was_changed_meanwhile_is_not_noted(house: House) -> None:
    now = await house.now_ms()
    await house.store.schedule(NAME, "record", now)
    await house.store.schedule(NAME, "another", now)
    assert not await house.store.fired(t.ScheduleRow(NAME, "record", now), now + 60_000)


@covers("fire", "never again")
async def test_the_last_time(house: House) -> None:
    now = await house.now_ms()
    await house.store.schedule(NAME, "record", now)
    assert await house.store.fired(t.ScheduleRow(NAME, "record", now), None)
    assert await house.store.schedules() == ()
    assert (await due(house)).next_ms is None


@covers("unschedule", "none", "taken away")
@covers("due", "no schedule any more")
async def test_taken_away(house: House) -> None:
    now = await house.now_ms()
    assert not await house.refused(house.store.unschedule(NAME))
    await house.store.schedule(NAME, "record", now)
    assert await house.store.unschedule(NAME)
    assert await house.store.schedules() == ()
    partition = house.store.keys.partition(house.store.keys.partition_named(NAME))
    await house.redis.zadd(f"{partition}:due", {f"s:{NAME}": 1})
    assert (await due(house)).fires == ()
    assert (await due(house)).done == 0
