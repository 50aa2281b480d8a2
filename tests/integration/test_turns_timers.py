"""`set_timer`, `cancel_timer`, `on_timer`: each fires once, or not at all, whatever is crashed or cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orbit import Connection, UsageError
from orbit.store import types as t
from tests.integration.fleet import Fleet, status, until
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed
from tests.support.waiting import soon


class Alarm(Probed):
    """Does what it is told: `["set", name, seconds]`, `["cancel", name]`, `["raise"]`."""

    fired: list[str] = []  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def on_update(self, connection: Connection, data: Any) -> None:
        for verb, *args in data:
            match verb:
                case "set":
                    await self.transaction.set_timer(*args)
                case "cancel":
                    await self.transaction.cancel_timer(*args)
                case "raise":
                    raise ValueError("on purpose")

    async def on_timer(self, name: str) -> None:
        Probed.probe.seen.append(name)
        if name == "broken":
            raise ValueError("on purpose")
        self.fired.append(name)
        await self.transaction.send_update(name)
        if name == "again" and self.fired.count("again") < 3:
            await self.transaction.set_timer("again", 0)
        if name == "last":
            await self.transaction.finish(self.fired)


async def drive(house: House, tx: Any, fired: int) -> None:
    """Claim it and let it run until it has nothing to do, again and again until so many timers have fired."""
    while len(Probed.probe.seen) < fired:
        await (await house.claim(Alarm, tx)).idle()


async def test_a_timer_fires_once_while_it_sleeps(house: House, probe: Probe) -> None:
    tx = await house.start(Alarm)
    await house.send(tx, [["set", "a", 0.05], ["set", "b", 0.02]])
    await drive(house, tx, 2)
    assert await house.updates(tx) == ["b", "a"]
    assert probe.seen == ["b", "a"]
    assert (await house.store.due(house.store.partition_of(tx))).next_ms is None


async def test_set_anew_it_fires_once_and_later(house: House, probe: Probe) -> None:
    tx = await house.start(Alarm)
    await house.send(tx, [["set", "a", 0], ["set", "a", 0.05]])
    await drive(house, tx, 1)
    assert await house.updates(tx) == ["a"]


async def test_one_that_stands_in_the_inbox_can_still_be_cancelled_or_set_anew(house: House, probe: Probe) -> None:
    """The message that cancels it stands before it in the inbox: both are read at once."""
    tx = await house.start(Alarm)
    await house.send(tx, [["set", "cancelled", 0.05], ["set", "anew", 0.05]])
    stay = await house.claim(Alarm, tx)
    await stay.idle()
    await house.send(tx, [["cancel", "cancelled"], ["set", "anew", 0.1]])
    due = t.DueAnswer(0, None, 0)
    while due.done == 0:
        due = await house.store.due(house.store.partition_of(tx))
    await drive(house, tx, 1)
    assert probe.seen == ["anew"]
    assert (await house.store.due(house.store.partition_of(tx))).next_ms is None


async def test_a_handler_that_raises_sets_and_cancels_nothing(house: House, probe: Probe) -> None:
    tx = await house.start(Alarm)
    await house.send(tx, [["set", "a", 0.02]])
    await house.send(tx, [["cancel", "a"], ["set", "b", 0], ["raise"]])
    await drive(house, tx, 1)
    assert probe.seen == ["a"]


async def test_a_timer_may_set_itself_anew(house: House, probe: Probe) -> None:
    tx = await house.start(Alarm)
    await house.send(tx, [["set", "again", 0]])
    await drive(house, tx, 3)
    assert await house.updates(tx) == ["again"] * 3


async def test_one_that_fails_has_been_handled(house: House, probe: Probe) -> None:
    tx = await house.start(Alarm)
    await house.send(tx, [["set", "broken", 0], ["set", "fine", 0.02]])
    await drive(house, tx, 2)
    assert probe.seen == ["broken", "fine"]
    assert await house.updates(tx) == ["fine"]


@pytest.mark.parametrize("after", [False, True])
async def test_crashed_at_each_commit_it_fires_once(house: House, probe: Probe, after: bool) -> None:
    for at in (1, 2, 3):
        tx = await house.start(Alarm)
        await house.send(tx, [["set", "a", 0], ["set", "last", 0.05]])
        tap = Tap(house.store)
        setattr(tap, "crash_after" if after else "crash_before", at)
        while (found := await house.store.get(tx)) is not None and found.status != "finished":
            stay = await house.claim(Alarm, tx, tap)
            await _until_either(stay, tap)
            if tap.crashed.is_set():
                await stay.kill()
                tap = Tap(house.store)
        assert await house.end(tx) == ("finished", ["a", "last"]), at


async def _until_either(stay: Any, tap: Tap) -> None:
    crashed = asyncio.ensure_future(tap.crashed.wait())
    await asyncio.wait((crashed, stay.task), return_when="FIRST_COMPLETED")
    crashed.cancel()
    if stay.task.done() and not tap.crashed.is_set():
        await stay.release(idle=True)


class FromRun(Probed, stays_open=False):
    async def run(self) -> list[str]:
        await self.transaction.set_timer("once", 0.05)
        await self.transaction.set_timer("never", 3600)
        await self.transaction.cancel_timer("never")
        Probed.probe.counts["set"] += 1
        await self.transaction.wait_message("go")
        return Probed.probe.seen

    async def on_timer(self, name: str) -> None:
        Probed.probe.seen.append(name)


async def test_in_run_it_is_set_once_though_run_begins_again(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(FromRun)
    first = await fleet.worker(FromRun, linger_s=3600.0)
    await until(house.store, tx, lambda found: found.number >= 3)
    await fleet.worker(FromRun, linger_s=3600.0)
    await fleet.drain(first)
    await soon(lambda: probe.counts["set"] >= 2)

    async def none_left() -> bool:
        return not await house.store.link.read("EXISTS", house.store.keys.transaction(tx) + ":timers")

    await soon(none_left)
    await house.send(tx, "go")
    await until(house.store, tx, status("finished"))
    assert probe.seen == ["once"]


class Untimed(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        try:
            await self.transaction.set_timer("x", 1)
        except UsageError as error:
            Probed.probe.errors.append(error)
            raise


async def test_a_state_without_on_timer_sets_none(house: House, probe: Probe) -> None:
    tx = await house.start(Untimed)
    await house.send(tx, 1)
    await (await house.claim(Untimed, tx)).idle()
    assert "no on_timer(self, name)" in str(probe.errors[0])


class Crowded(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        try:
            for n in range(1001):
                await self.transaction.set_timer(f"t{n}", 1000)
        except UsageError as error:
            Probed.probe.errors.append(error)
            raise

    async def on_timer(self, name: str) -> None: ...


async def test_a_thousand_and_no_more(house: House, probe: Probe) -> None:
    tx = await house.start(Crowded)
    await house.send(tx, 1)
    await (await house.claim(Crowded, tx)).idle()
    assert "1000 timers are set already" in str(probe.errors[0])
