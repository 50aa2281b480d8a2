"""Steps and names: recorded once, without the turn, without fields."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import Field

from orbit import Connection, UsageError, current_step
from orbit.config import RetryPolicy
from orbit.protocol.values import pack
from orbit.state import encode, rebuild
from orbit.store import types as t
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed, nothing, steps_of_the_loop
from tests.support.waiting import soon

# ---- steps


class StepInHandler(Probed):
    n: int = 0

    async def run(self) -> None:
        await Probed.probe.go.wait()
        self.n += 10
        await self.transaction.send_update("run")
        Probed.probe.there.set()

    async def on_update(self, connection: Connection, data: Any) -> None:
        probe = Probed.probe
        if data == "late":
            self.n += 1
            try:
                await self.transaction.step("x", nothing)
            except UsageError as error:
                probe.errors.append(error)
                raise
        elif data == "sent":
            await self.transaction.send_update("x")
            try:
                await self.transaction.step("x", nothing)
            except UsageError as error:
                probe.errors.append(error)
                raise
        elif data == "step":
            got = await self.transaction.step("x", self.work)
            self.n += got
            await self.transaction.send_update(f"stepped {self.n}")
        else:
            await self.transaction.send_update(data)

    async def work(self) -> int:
        probe = Probed.probe
        probe.seen.append("step")
        probe.go.set()
        await probe.there.wait()
        return 1


async def test_a_step_after_a_change_in_a_handler_is_an_error_that_says_so(house: House, probe: Probe) -> None:
    tx = await house.start(StepInHandler)
    probe.go.set()
    me = await house.attach(tx, "me")
    await house.send(tx, "late", me)
    await house.send(tx, "sent", me)
    stay = await house.claim(StepInHandler, tx)
    await stay.idle()
    assert [str(error).count("after it changed a field or sent") for error in probe.errors] == [1, 1]
    assert await house.refusals(tx) == [("me", 1, "state_error"), ("me", 2, "state_error")]


class Sets(Probed, retries=1):
    some: set[int] = Field(default={7, 15})
    """Comes back from a snapshot in the other order, each time."""

    async def run(self) -> None:
        raise ValueError

    async def on_update(self, connection: Connection, data: Any) -> None:
        got = await self.transaction.step("x", nothing)
        await self.transaction.send_update([got, sorted(self.some)])


async def test_a_set_that_is_rebuilt_in_another_order_is_no_change(house: House, probe: Probe) -> None:
    """run raises, so the fields are rebuilt; a handler's step isn't refused then for coming after a change."""
    assert list(rebuild(Sets, encode(Sets())).some) != list(Sets().some)
    house.options["retry"] = RetryPolicy(first_s=60)
    house.options["lease_s"] = 600  # so that the pause is spent here
    tx, stay = await house.run(Sets)
    await soon(lambda: [commit.attempts for commit in stay.tap.commits] == [1])
    me = await house.attach(tx, "me")
    await house.send(tx, "step", me)
    await soon(lambda: stay.actor.history.head.seq == 1)
    assert await house.refusals(tx) == []
    assert await house.updates(tx) == [[None, [7, 15]]]


async def test_while_a_handlers_step_runs_run_gets_its_turns_but_no_other_handler(house: House, probe: Probe) -> None:
    tx = await house.start(StepInHandler)
    await house.send(tx, "step")
    await house.send(tx, "next")
    stay = await house.claim(StepInHandler, tx)
    # run holds the turn until the step begins, so let it begin without: its go is set by the step
    probe.go.set()
    await stay.idle()
    assert await house.updates(tx) == ["run", "stepped 11", "next"]


class Recorded(Probed, stays_open=False):
    async def run(self) -> list[Any]:
        first = await self.transaction.step("a", self.work, "a")
        await self.transaction.send_update("once", once="sent")
        both = await self.transaction.gather(
            self.transaction.step("b", self.work, "b"), self.transaction.step("c", plain_work, Probed.probe, "c")
        )
        return [first, *both]

    async def work(self, name: str) -> tuple[str, int]:
        Probed.probe.seen.append(name)
        return name, 1


def plain_work(probe: Probe, name: str) -> str:
    probe.seen.append(name)
    return name


@pytest.mark.parametrize("after", [False, True])
async def test_what_is_recorded_is_not_run_again(house: House, probe: Probe, after: bool) -> None:
    for at in range(1, 6):
        probe.seen.clear()
        tx = await house.start(Recorded)
        tap = Tap(house.store)
        if after:
            tap.crash_after = at
        else:
            tap.crash_before = at
        stay = await house.claim(Recorded, tx, tap)
        await tap.crashed.wait()
        await stay.kill()
        if (await house.store.get(tx)).status != "finished":  # type: ignore[union-attr]
            await (await house.claim(Recorded, tx)).leaving()
        assert await house.end(tx) == ("finished", [["a", 1], ["b", 1], "c"])
        assert await house.updates(tx) == ["once"]
        if after:
            assert sorted(set(probe.seen)) == ["a", "b", "c"]
            assert probe.seen.count("a") == 1


class Gathering(Probed, stays_open=False):
    async def run(self) -> None:
        probe = Probed.probe
        try:
            await self.transaction.gather(
                self.transaction.step("bad", self.bad), self.transaction.step("good", self.good)
            )
        except ValueError:
            probe.seen.append("raised")
        await self.transaction.finish()

    async def bad(self) -> None:
        Probed.probe.go.set()
        raise ValueError

    async def good(self) -> str:
        await Probed.probe.go.wait()
        await steps_of_the_loop()
        Probed.probe.seen.append("good")
        return "good"


async def test_gather_raises_the_first_error_when_all_have_settled(house: House, probe: Probe) -> None:
    _, stay = await house.run(Gathering)
    await stay.leaving()
    assert probe.seen == ["good", "raised"]
    assert any("good" in name for commit in stay.tap.commits for name, _ in commit.names)


class Touching(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> None:
        probe = Probed.probe
        for name, fn in (("async", self.touch), ("plain", self.touch_plain)):
            try:
                await self.transaction.step(name, fn)
            except UsageError as error:
                probe.errors.append(error)
        await self.transaction.step("progress", self.progress)

    async def touch(self) -> None:
        self.n = 1

    def touch_plain(self) -> None:
        self.n = 2

    async def progress(self) -> None:
        await self.transaction.send_update("from a step")


async def test_a_step_touches_no_field_and_may_send(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Touching)
    await stay.leaving()
    assert len(probe.errors) == 2
    assert "Touching.n" in str(probe.errors[0])
    assert await house.updates(tx) == ["from a step"]
    assert all(commit.snapshot in (None, b'{"n":0}') for commit in stay.tap.commits)


class Aside(Probed):
    """While a step runs, a handler changes fields; the step's commits must not take them back."""

    n: int = 0

    async def run(self) -> None:
        await self.transaction.step("long", self.long)

    async def long(self) -> None:
        probe = Probed.probe
        probe.there.set()
        for _ in range(50):
            await self.transaction.send_update("progress")

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1


async def test_commits_of_a_step_do_not_take_fields_back(house: House, probe: Probe) -> None:
    tx = await house.start(Aside, keep_updates=10_000)
    Aside.__orbit__ = type(Aside.__orbit__)(name="Aside", stays_open=True, keep_updates=4)
    stay = await house.claim(Aside, tx)
    await probe.there.wait()
    for n in range(20):
        await house.send(tx, n)
    await stay.idle()
    again = await house.claim(Aside, tx) if (await house.store.get(tx)).status != "idle" else None  # type: ignore[union-attr]
    assert again is None
    assert stay.actor.history.stored == b'{"n":20}'
    counts = [int(commit.snapshot[5:-1]) for commit in stay.tap.commits if commit.snapshot]
    assert counts == sorted(counts)


# ---- names


class Twice(Probed, stays_open=False, retries=0):
    async def run(self) -> None:
        await self.transaction.step("same", nothing)
        await self.transaction.step("same", nothing)


async def test_a_name_used_twice_in_one_pass_is_an_error(house: House) -> None:
    tx, stay = await house.run(Twice)
    await stay.leaving()
    assert (await house.end(tx))[0] == "failed"
    assert "'same' is used twice" in (await house.store.get(tx)).trace  # type: ignore[union-attr, operator]


class Restarting(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> int:
        self.n += await self.transaction.step("add", self.one)
        await self.transaction.send_update(self.n, once="told")
        if self.n < 3:
            await self.transaction.restart()
        return self.n

    async def one(self) -> int:
        Probed.probe.seen.append("step")
        return 1


async def test_restart_forgets_the_names_and_keeps_the_fields(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Restarting)
    await stay.leaving()
    assert probe.seen == ["step"] * 3
    assert await house.updates(tx) == [1, 2, 3]
    assert await house.end(tx) == ("finished", 3)
    assert [len(commit.forgotten) for commit in stay.tap.commits if commit.passes] == [2, 2]
    assert not stay.actor.history.names


# ---- what a step leaves behind


MARK: ContextVar[str] = ContextVar("mark", default="none")


class Marked(Probed, stays_open=False):
    heard: int = 0

    async def run(self) -> list[Any]:
        MARK.set("of run")
        await self.transaction.step("slow", self.slow)
        return [self.heard]

    async def slow(self) -> None:
        MARK.set("of the step")
        await Probed.probe.stop_here()
        await current_step().send_update("half")
        await Probed.probe.begun.wait()

    async def on_update(self, connection: Connection, data: Any) -> None:
        Probed.probe.seen.append(MARK.get())
        try:
            current_step()
        except UsageError:
            Probed.probe.seen.append("no step")
        self.heard += 1
        Probed.probe.begun.set()


async def test_a_handler_runs_in_no_steps_context(house: House, probe: Probe) -> None:
    """The step's own commit finds the first message, so the step gives the occasion for looking after the inbox."""
    tx, stay = await house.run(Marked)
    await probe.there.wait()
    await house.store.append(tx, t.NewMessage(pack("hello")))
    assert not stay.actor.attended
    probe.go.set()
    await stay.leaving()
    assert await house.end(tx) == ("finished", [1])
    assert probe.seen == ["none", "no step"]


class Spoiled(Probed, stays_open=False, retries=0):
    things: list[Any] = []  # noqa: RUF012 - a pydantic field

    async def run(self) -> None:
        await self.transaction.step("bad", self.spoil)

    async def spoil(self) -> None:
        self.things.append(object())
        await Probed.probe.stop_here()

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.send_update(len(self.things))


async def test_what_a_step_leaves_in_a_field_that_can_not_even_be_written_down_holds_nobody_up(
    house: House, probe: Probe
) -> None:
    tx, stay = await house.run(Spoiled)
    await probe.there.wait()
    for n in range(2):
        await house.send(tx, n)
        await soon(lambda n=n: stay.actor.history.head.seq == n + 1)  # type: ignore[misc]
    probe.go.set()
    await stay.leaving()
    assert await house.updates(tx) == [0, 0]
    found = await house.store.get(tx)
    assert found is not None
    assert "a step changed a field in place" in (found.trace or "")
