"""How `run` ends: finish, fail, cancel, return, failure after its retries."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from pydantic import Field

from orbit import Connection, Unloaded
from orbit.config import RetryPolicy
from orbit.store import types as t
from orbit.worker.frames import current_frame
from orbit.worker.lease import now_s
from orbit.worker.places import waits
from orbit.worker.surroundings import CrashLimits, Leaving
from tests.integration.house import House
from tests.integration.probes import Probe, Probed, forever, steps_of_the_loop
from tests.support.waiting import PATIENCE_S, soon

# ---- how run ends


class Failing(Probed, retries=0, stays_open=False):
    tried: int = 0

    async def run(self) -> int:
        self.tried += 1
        recorded = await self.transaction.step("draw", self.draw)
        await self.transaction.send_update(self.tried)
        if self.tried == 1:
            await self.transaction.fail("the first time")
        return recorded

    async def draw(self) -> int:
        Probed.probe.seen.append("drawn")
        return self.tried


class Short(Probed, stays_open=False):
    async def run(self) -> int:
        return 7


async def test_one_that_finds_its_own_end_before_the_answer_to_it_has_ended(house: House, probe: Probe) -> None:
    """The commit with the end is written; a wake-up has the inbox read, which says that nobody runs the transaction;
    only then the commit's answer comes. Taken for another's, it would tell its parent and its children nothing.
    """
    tx = await house.start(Short)
    stay = await house.claim(Short, tx)

    async def read_first(commit: t.Commit) -> None:
        if commit.end is not None:
            reads = stay.tap.reads
            stay.actor.nudge()
            await soon(lambda: stay.tap.reads > reads)
            await steps_of_the_loop()

    stay.tap.after_commit = read_first
    assert await stay.leaving() is Leaving.ENDED


async def test_a_failed_one_that_is_retried_goes_on_from_its_last_commit(house: House, probe: Probe) -> None:
    """Its fields and the names that it recorded are as they were; the step isn't done twice."""
    tx = await house.start(Failing)
    assert await (await house.claim(Failing, tx)).leaving() is Leaving.ENDED
    assert await house.store.retry(tx, "once") == t.Retried("pending")
    assert await (await house.claim(Failing, tx)).leaving() is Leaving.ENDED
    assert await house.updates(tx) == [1, 2]
    assert await house.end(tx) == ("finished", 1)
    assert probe.seen == ["drawn"]


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
    await probe.begun.wait()
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
    await soon(lambda: stay.actor.cancelling)
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


class Resting(Probed, retries=5):
    n: int = 0

    async def run(self) -> None:
        Probed.probe.seen.append("run")
        raise ValueError

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        await self.transaction.send_update(data)


async def test_handlers_go_on_while_run_waits_to_be_tried_again(house: House, probe: Probe) -> None:
    house.options["retry"] = RetryPolicy(first_s=60)
    house.options["lease_s"] = 600  # so that the pause is spent here
    tx = await house.start(Resting)
    stay = await house.claim(Resting, tx)
    await house.send(tx, "hello")
    while not stay.tap.commits or not stay.tap.commits[-1].consumed:
        await steps_of_the_loop()
    assert probe.seen == ["run"]
    stay.actor.unload()
    assert await stay.leaving() is Leaving.RESTING
    assert stay.actor.rest_s > 20


async def test_a_long_pause_is_spent_asleep_and_goes_on_after_a_message(house: House, probe: Probe) -> None:
    house.options["retry"] = RetryPolicy(first_s=60)
    tx = await house.start(Resting)
    for n in (1, 2):
        stay = await house.claim(Resting, tx)
        assert await stay.leaving() is Leaving.RESTING
        assert stay.actor.rest_s > 20
        answer = await house.store.release(
            tx, stay.actor.grant.epoch, stay.actor.history.number, stay.actor.last_seen, idle=True,
            timers=stay.actor.wake_timers(),
        )  # fmt: skip
        assert answer == t.Released("idle")
        await house.send(tx, n)
    assert probe.seen == ["run"], "it was tried again before its time"
    assert await house.updates(tx) == [1]


class Limited(Probed, stays_open=False, turn_timeout_s=PATIENCE_S, retries=1):
    async def run(self) -> None:
        probe, frame = Probed.probe, current_frame.get()
        assert frame is not None
        assert frame.limit is not None
        probe.limit = frame.limit
        assert left_s() is not None
        probe.seen.append("run")
        await self.transaction.step("slow", self.slow)
        assert 0 < left_s() <= PATIENCE_S
        probe.seen.append("turn")
        probe.expire()
        await forever()

    async def slow(self) -> None:
        assert left_s() is None, "a step isn't the turn's"
        Probed.probe.seen.append("step")


def left_s() -> Any:
    """For how much longer `run` may hold its turn."""
    when = Probed.probe.limit.when()
    return None if when is None else when - asyncio.get_running_loop().time()


async def test_a_turn_of_run_that_takes_longer_than_it_may_counts_as_failed(house: House, probe: Probe) -> None:
    house.options["retry"] = RetryPolicy(first_s=0.01)
    tx, stay = await house.run(Limited)
    await stay.leaving()
    assert probe.seen == ["run", "step", "turn", "run", "turn"]
    assert (await house.end(tx))[1][0] == "TimeoutError"


class Late(Probed, stays_open=False, timeout_s=1800):
    async def run(self) -> None:
        Probed.probe.seen.append("run")
        await self.transaction.sleep("long", 3600)


async def test_one_that_takes_longer_than_its_timeout_s_fails_wherever_it_is(house: House, probe: Probe) -> None:
    """Counted from its first turn on, by the server's clock: here it is asleep when its time is over."""
    house.options["long_pause_s"] = 0.1
    tx, stay = await house.run(Late)
    await stay.idle()
    await house.pass_time(tx, 1800)
    again = await house.claim(Late, tx)  # `due` wakes it
    await again.leaving()
    kind, text = (await house.end(tx))[1]
    assert (kind, text) == ("TimeoutError", "it took longer than its timeout_s, 1800 s")


class Fatal(Probed):
    async def run(self) -> None:
        Probed.probe.seen.append("run")
        Probed.probe.there.set()
        await forever()


async def test_a_transaction_that_loses_worker_after_worker_fails(house: House, probe: Probe) -> None:
    house.options["crashes"] = CrashLimits(fail=3)
    tx = await house.start(Fatal)
    for _ in range(3):
        probe.there.clear()
        stay = await house.claim(Fatal, tx)
        await probe.there.wait()
        await stay.kill()
    await (await house.claim(Fatal, tx)).leaving()
    assert probe.seen == ["run"] * 3
    assert await house.end(tx) == ("failed", ("Crashed", "its workers were lost 3 times"))


class Lapsing(Probed):
    async def run(self) -> None:
        for n in range(3):
            Probed.probe.seen.append(n)
            await self.transaction.send_update(n)


async def test_no_turn_begins_while_the_lease_is_over_by_our_own_clock(house: House, probe: Probe) -> None:
    tx = await house.start(Lapsing)
    stay = await house.claim(Lapsing, tx)
    stay.actor.lease.deadline_s = 0.0
    while not stay.actor.lease.waiting:
        await steps_of_the_loop()
    assert probe.seen == []
    stay.actor.lease.extend(now_s() + 60)
    await stay.idle()
    assert probe.seen == [0, 1, 2]


class Rebuilt(Probed, stays_open=False):
    items: list[int] = Field(default_factory=list)

    async def run(self) -> list[int]:
        mine = self.items
        mine.append(1)
        await self.transaction.checkpoint()
        mine.append(2)
        await self.transaction.checkpoint()
        return self.items


async def test_a_reference_held_over_a_commit_shows_when_fields_are_rebuilt_always(house: House) -> None:
    for always, end in ((False, [1, 2]), (True, [1])):
        house.options["rebuild_always"] = always
        tx, stay = await house.run(Rebuilt)
        await stay.leaving()
        assert await house.end(tx) == ("finished", end)


class Held(Probed):
    async def run(self) -> None:
        await Probed.probe.stop_here()  # it holds the turn here


class HeldInAThread(Probed):
    def run(self) -> None:
        Probed.probe.loop.call_soon_threadsafe(Probed.probe.there.set)
        Probed.probe.hold.wait()  # it holds the turn here


@pytest.mark.parametrize("cls", [Held, HeldInAThread])
async def test_code_that_holds_a_turn_for_long_is_named_once(
    house: House, probe: Probe, cls: type[Probed]
) -> None:
    house.options["long_turn_s"] = 0.0
    _, stay = await house.run(cls)
    await probe.there.wait()
    held = stay.actor.held_long()
    assert held is not None
    holder = held[0]
    lines, first = inspect.getsourcelines(cls)
    number = first + next(n for n, line in enumerate(lines) if "it holds the turn here" in line)
    await soon(lambda: waits(holder, stay.actor).where == f"{__file__}:{number}")
    assert waits(holder, stay.actor).hook == "run"
    assert stay.actor.held_long() is None
    probe.go.set()
    probe.hold.set()
