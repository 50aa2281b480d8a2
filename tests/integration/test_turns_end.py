"""How `run` ends: finish, fail, cancel, return, failure after its retries."""

from __future__ import annotations

from typing import Any

import pytest

from orbit import Connection, Unloaded
from orbit.config import RetryPolicy
from orbit.worker.actor import Leaving
from tests.integration.house import House
from tests.integration.probes import Probe, Probed, forever

# ---- how run ends


class Finishing(Probed):
    n: int = 0

    async def run(self) -> None:
        probe = Probed.probe
        try:
            while True:
                try:
                    await self.transaction.step("wait", forever)
                except Exception:
                    probe.seen.append("swallowed")
        finally:
            probe.seen.append("finally")
            try:
                await self.transaction.send_update("too late")
            except Unloaded:
                probe.seen.append("unloaded")

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        if data == "finish":
            await self.transaction.finish(self.n)
        elif data == "fail":
            await self.transaction.fail("as asked")
        await self.transaction.send_update("last words")


@pytest.mark.parametrize(("verb", "end"), [("finish", ("finished", 1)), ("fail", ("failed", ("Failed", "as asked")))])
async def test_finish_in_a_handler_counts_when_it_returns_and_ends_run_where_it_waits(
    house: House, probe: Probe, verb: str, end: Any
) -> None:
    tx = await house.start(Finishing)
    me = await house.attach(tx, "me")
    await house.send(tx, verb, me)
    await house.send(tx, "left over", me)
    assert await (await house.claim(Finishing, tx)).leaving() is Leaving.ENDED
    assert await house.updates(tx) == ["last words"]
    assert await house.refusals(tx) == [("me", 2, "ended")]
    assert await house.end(tx) == end
    assert probe.seen == ["finally", "unloaded"]


async def test_cancel_ends_run_where_it_waits(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Finishing)
    await house.store.cancel(tx, "enough")
    stay.actor.nudge()
    assert await stay.leaving() is Leaving.ENDED
    assert (await house.end(tx))[0] == "cancelled"
    assert probe.seen == ["finally", "unloaded"]


class Holding(Probed):
    n: int = 0

    async def run(self) -> None:
        self.n = 1
        await Probed.probe.stop_here()
        await self.transaction.send_update("held")
        await self.transaction.step("wait", forever)


async def test_cancel_waits_for_the_running_turns_commit(house: House, probe: Probe) -> None:
    house.options["cancel_grace_s"] = 60
    tx, stay = await house.run(Holding)
    await probe.there.wait()
    await house.store.cancel(tx, "enough")
    stay.actor.nudge()
    await stay.actor.cancelling.wait()
    probe.go.set()
    assert await stay.leaving() is Leaving.ENDED
    assert await house.updates(tx) == ["held"]
    assert (await house.end(tx))[0] == "cancelled"


async def test_cancel_does_not_wait_for_ever_for_a_turn(house: House, probe: Probe) -> None:
    house.options["cancel_grace_s"] = 0.05
    tx, stay = await house.run(Holding)
    await probe.there.wait()
    await house.store.cancel(tx, "enough")
    stay.actor.nudge()
    assert await stay.leaving() is Leaving.ENDED
    assert await house.updates(tx) == []
    assert (await house.end(tx))[0] == "cancelled"


class FinishInRun(Probed):
    async def run(self) -> None:
        try:
            await self.transaction.finish("done")
        except Exception:
            Probed.probe.seen.append("swallowed")
        Probed.probe.seen.append("returned")


async def test_finish_never_returns_in_run(house: House, probe: Probe) -> None:
    tx, stay = await house.run(FinishInRun)
    await stay.leaving()
    assert await house.end(tx) == ("finished", "done")
    assert probe.seen == []


class Returned(Probed):
    n: int = 0

    async def run(self) -> None:
        self.n += 1
        Probed.probe.seen.append("run")

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.send_update(self.n)


async def test_the_return_of_run_is_recorded_with_its_last_turn(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Returned)
    await stay.idle()
    await house.send(tx, "x")
    await (await house.claim(Returned, tx)).idle()
    assert probe.seen == ["run"]
    assert await house.updates(tx) == [1]


class Retried(Probed, stays_open=False, retries=2):
    n: int = 0

    async def run(self) -> None:
        Probed.probe.seen.append(self.n)
        self.n += 1
        raise ValueError("a secret")


async def test_a_run_that_raises_is_rolled_back_retried_and_fails_in_the_end(house: House, probe: Probe) -> None:
    house.options["retry"] = RetryPolicy(first_s=0.01)
    tx, stay = await house.run(Retried)
    await stay.leaving()
    assert probe.seen == [0, 0, 0]
    status, error = await house.end(tx)
    assert status == "failed"
    assert error[0] == "ValueError"
    assert "secret" not in error[1]
    assert "a secret" in (await house.store.get(tx)).trace  # type: ignore[union-attr, operator]
