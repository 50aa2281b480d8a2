"""Schedules: each time one start, whatever number of workers there is, and however many of them are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from orbit.client import Broker
from orbit.errors import BadRequest, NotFound
from orbit.store import types as t
from orbit.store.planning import Plan
from orbit.store.store import Store
from orbit.worker.firing import fire
from tests.integration.fleet import Fleet
from tests.integration.house import House
from tests.integration.probes import Probe, Probed

EACH_MINUTE = "* * * * *"
EACH_YEAR = "0 0 1 1 *"


@pytest.fixture
async def broker(store: Store) -> AsyncIterator[Broker]:
    async with Broker(store) as broker:
        yield broker


class Report(Probed, stays_open=False):
    of: str
    at: datetime | None = None

    async def run(self) -> None:
        Probed.probe.seen.append(self.of)


async def to_fire(store: Store, name: str, plan: Plan) -> int:
    """Make it due; the time that it was to fire."""
    now = await store.now_ms(name)
    await store.schedule(name, plan.record, now)
    return now


async def test_it_fires_once_though_three_workers_hear_of_it(
    house: House, store: Store, probe: Probe, fleet: Fleet
) -> None:
    for _ in range(3):
        await fleet.worker(Report)
    plan = Plan("nightly", "Report", {"of": "sales"}, EACH_YEAR)  # the next time doesn't come meanwhile
    at_ms = await to_fire(store, "nightly", plan)
    while (row := await store.schedule_named("nightly")) is not None and row.next_ms == at_ms:
        await asyncio.wait([asyncio.ensure_future(store.ping())])
    assert row is not None
    assert row.next_ms == plan.next_ms(at_ms)
    tx = store.derived_id("schedule", "nightly", str(at_ms))
    assert [one.tx for one in (await store.list()).transactions] == [tx]


async def test_done_twice_it_starts_once(store: Store, probe: Probe) -> None:
    """Two workers were told of the same time; the one that noted it was lost before that, or the other was late."""
    await store.publish_states([_record()])
    plan = Plan("nightly", "Report", {"of": "sales"}, EACH_MINUTE)
    at_ms = await to_fire(store, "nightly", plan)
    for _ in range(2):
        await fire(store, "nightly", at_ms, at_ms)
    row = await store.schedule_named("nightly")
    assert row is not None
    await fire(store, "nightly", row.next_ms, row.next_ms)
    assert len((await store.list()).transactions) == 2


async def test_times_that_passed_unseen_are_made_up_for_by_one(store: Store, probe: Probe) -> None:
    await store.publish_states([_record()])
    plan = Plan("nightly", "Report", {"of": "sales"}, EACH_MINUTE)
    at_ms = await to_fire(store, "nightly", plan)
    now_ms = at_ms + 3_600_000
    await fire(store, "nightly", at_ms, now_ms)
    row = await store.schedule_named("nightly")
    assert row is not None
    assert now_ms < row.next_ms <= now_ms + 60_000
    assert len((await store.list()).transactions) == 1


async def test_one_whose_state_is_not_known_any_more_goes_on_all_the_same(store: Store, probe: Probe) -> None:
    plan = Plan("nightly", "Nobody", {}, EACH_MINUTE)
    at_ms = await to_fire(store, "nightly", plan)
    await fire(store, "nightly", at_ms, at_ms)
    row = await store.schedule_named("nightly")
    assert row is not None
    assert row.next_ms > at_ms


async def test_the_broker_s_verbs(store: Store, broker: Broker) -> None:
    await broker.schedule("nightly", Report, {"of": "sales"}, cron="30 2 * * *", tz="Europe/Berlin", priority=3)
    await broker.schedule("nightly", Report, {"of": "sales"}, cron="30 2 * * *", tz="Europe/Berlin", priority=3)
    (one,) = await broker.schedules()
    assert (one.name, one.state, one.input, one.cron, one.tz) == (
        "nightly", "Report", {"of": "sales"}, "30 2 * * *", "Europe/Berlin"
    )
    assert (one.priority, one.queue) == (3, None)
    assert one.next_at > datetime.now(UTC)
    await broker.unschedule("nightly")
    assert await broker.schedules() == ()
    with pytest.raises(NotFound, match="no schedule 'nightly'"):
        await broker.unschedule("nightly")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"cron": "every night"}, "five fields"),
        ({"cron": "* * * * * *"}, "five fields"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"tz": "Europe/Atlantis"}, "there is none of this name"),
        ({"tz": "../../etc/passwd"}, "there is none of this name"),
        ({"name": ""}, "1 to 200 printable"),
        ({"input": {"of": 7}}, "doesn't fit: of: "),
        ({"priority": 1000}, "priority must be"),
    ],
)
async def test_a_schedule_that_means_nothing(broker: Broker, what: dict[str, Any], said: str) -> None:
    about: dict[str, Any] = {"cron": EACH_MINUTE, "input": {"of": "sales"}, "name": "nightly"} | what
    with pytest.raises(BadRequest, match=said):
        await broker.schedule(about.pop("name"), Report, about.pop("input"), **about)
    assert await broker.schedules() == ()


def test_summer_and_winter_time() -> None:
    plan = Plan("n", "S", {}, "30 2 * * *", "Europe/Berlin")

    def after(*moment: int) -> str:
        next_ms = plan.next_ms(int(datetime(*moment, tzinfo=UTC).timestamp() * 1000))  # type: ignore[misc]
        assert next_ms is not None
        return datetime.fromtimestamp(next_ms / 1000, UTC).isoformat()

    assert after(2026, 3, 28, 12) == "2026-03-29T01:00:00+00:00", "2:30 isn't there: 3:00 is"
    assert after(2026, 10, 24, 12) == "2026-10-25T00:30:00+00:00", "the first of the two"
    assert after(2026, 10, 25, 0, 31) == "2026-10-26T01:30:00+00:00", "and not the second"


def _record() -> t.StateRecord:
    import json

    return t.StateRecord("Report", 1, "default", json.dumps(Report.model_json_schema()), False, 10, 60.0)
