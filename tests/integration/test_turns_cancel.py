"""`on_cancel`: called once all else of the State has stopped; whatever it does, the end is `cancelled`."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orbit import Connection
from tests.integration.house import House, Stay
from tests.integration.probes import Probe, Probed, forever
from tests.support.waiting import soon


class Tidy(Probed, stays_open=False, cancel_timeout_s=30):
    """Waits in `where`, and does `how` when it is cancelled."""

    where: str = "step"
    how: str = "clean"
    n: int = 0

    async def run(self) -> None:
        self.n = 1
        await self.transaction.checkpoint()
        self.n = 2
        Probed.probe.there.set()
        try:
            match self.where:
                case "step":
                    await self.transaction.step("wait", forever)
                case "turn":
                    await forever()
                case "sleep":
                    await self.transaction.sleep("wait", 3600)
                case "message":
                    await self.transaction.wait_message("wait")
        finally:
            Probed.probe.seen.append("run ended")

    async def on_cancel(self) -> None:
        Probed.probe.seen.append(("on_cancel", self.n, self.transaction.cancel_reason))
        match self.how:
            case "clean":
                freed = await self.transaction.step("free", self.free)
                await self.transaction.send_update(freed)
            case "raise":
                await self.transaction.send_update("never seen")
                raise ValueError("on purpose")
            case "hang":
                await forever()
            case "finish":
                await self.transaction.finish("all the same")

    async def free(self) -> str:
        return "freed"


class Hasty(Tidy, name="Tidy", cancel_timeout_s=0.3):
    """For a clean-up that hangs: it is given up soon."""


async def cancelled(house: House, stay: Stay) -> None:
    await house.store.cancel(stay.actor.tx, "enough")
    stay.actor.note_cancel()
    await stay.leaving()


@pytest.mark.parametrize(("where", "n"), [("step", 2), ("turn", 1), ("sleep", 2), ("message", 2)])
async def test_wherever_run_is_it_is_stopped_first(house: House, probe: Probe, where: str, n: int) -> None:
    """A turn that is held is rolled back after its grace: the clean-up sees the fields of the last commit."""
    house.options["cancel_grace_s"] = 0.2 if where == "turn" else 30  # others give the turn away by themselves
    tx, stay = await house.run(Tidy, f'{{"where": "{where}"}}')
    await probe.there.wait()
    began = time.monotonic()
    await cancelled(house, stay)
    assert time.monotonic() - began < 15, "it waits for no limit"
    assert probe.seen == ["run ended", ("on_cancel", n, "enough")]
    assert await house.updates(tx) == ["freed"]
    assert (await house.end(tx))[0] == "cancelled"


@pytest.mark.parametrize("how", ["raise", "hang", "finish"])
async def test_whatever_it_does_the_end_is_cancelled(house: House, probe: Probe, how: str) -> None:
    tx, stay = await house.run(Hasty if how == "hang" else Tidy, f'{{"how": "{how}"}}')
    await probe.there.wait()
    await cancelled(house, stay)
    assert await house.updates(tx) == []
    assert await house.end(tx) == ("cancelled", None)


async def test_one_that_sleeps_is_woken_to_clean_up(house: House, probe: Probe) -> None:
    house.options["long_pause_s"] = 0.01
    tx, stay = await house.run(Tidy, '{"where": "sleep"}')
    await stay.idle()
    await house.store.cancel(tx, "enough")
    await (await house.claim(Tidy, tx)).leaving()
    assert probe.seen[-1] == ("on_cancel", 2, "enough")
    assert await house.updates(tx) == ["freed"]


async def test_a_worker_that_is_lost_in_it_leaves_it_to_the_next(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Tidy, '{"how": "hang"}')
    await probe.there.wait()
    await house.store.cancel(tx, "enough")
    stay.actor.note_cancel()
    await soon(lambda: len(probe.seen) >= 2)
    await stay.kill()
    await (await house.claim(Hasty, tx)).leaving()
    assert [one[0] for one in probe.seen if isinstance(one, tuple)] == ["on_cancel"] * 2
    assert (await house.end(tx))[0] == "cancelled"


class Threaded(Probed, stays_open=False, cancel_timeout_s=0.1):
    def run(self) -> None:
        Probed.probe.loop.call_soon_threadsafe(Probed.probe.there.set)
        Probed.probe.hold.wait()
        Probed.probe.seen.append("thread ended")

    async def on_cancel(self) -> None:
        Probed.probe.seen.append("on_cancel")


async def test_beside_a_thread_that_can_not_be_stopped_it_is_not_called(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Threaded)
    await probe.there.wait()
    await cancelled(house, stay)
    assert (await house.end(tx))[0] == "cancelled"
    assert probe.seen == []
    probe.hold.set()


class InHandler(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        Probed.probe.there.set()
        await self.transaction.step("wait", forever)

    def on_cancel(self) -> None:
        Probed.probe.seen.append("on_cancel")
        self.transaction.sync.send_update("freed")


async def test_a_handler_in_a_step_is_stopped_too_and_a_plain_clean_up_runs_in_a_thread(
    house: House, probe: Probe
) -> None:
    tx = await house.start(InHandler)
    ann = await house.attach(tx, "ann")
    await house.send(tx, 1, ann)
    stay = await house.claim(InHandler, tx)
    await probe.there.wait()
    await cancelled(house, stay)
    assert probe.seen == ["on_cancel"]
    assert await house.updates(tx) == ["freed"]
    assert await house.refusals(tx) == [("ann", 1, "ended")]
