"""What a State's code does wrong is told with State, transaction and what to do instead; and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from orbit import Connection
from orbit.config import Limits
from orbit.store import types as t
from tests.integration.house import House
from tests.integration.probes import Probe, Probed, nothing

LIMITS = Limits(data_bytes=200, snapshot_bytes=500)


class Child(Probed, stays_open=False):
    async def run(self) -> None: ...


class Mistaken(Probed, stays_open=False, retries=0):
    """Does what it is asked to do wrong, until it is mended."""

    what: str
    kept: Any = None

    async def run(self) -> Any:
        self.kept = "kept"
        await self.transaction.checkpoint()
        if not Probed.probe.go.is_set():
            await getattr(self, self.what)()
        return self.kept

    async def on_timer(self, name: str) -> None: ...

    async def step_gives_an_object(self) -> None:
        await self.transaction.step("s", self.give, {"a": [object()]})

    async def step_gives_too_much(self) -> None:
        await self.transaction.step("s", self.give, "x" * 300)

    async def give(self, value: Any) -> Any:
        return value

    async def snapshot_too_large(self) -> None:
        self.kept = "x" * 600
        await self.transaction.checkpoint()

    async def field_of_an_object(self) -> None:
        self.kept = threading.Lock()
        await self.transaction.checkpoint()

    async def update_of_an_object(self) -> None:
        await self.transaction.send_update({"n": {1, 2}})

    async def update_too_large(self) -> None:
        await self.transaction.send_update("x" * 300)

    async def result_of_an_object(self) -> None:
        await self.transaction.finish(object())

    async def name_no_text(self) -> None:
        await self.transaction.step(7, nothing)  # type: ignore[arg-type]

    async def name_empty(self) -> None:
        await self.transaction.sleep("", 1)

    async def name_twice(self) -> None:
        await self.transaction.step("s", nothing)
        await self.transaction.sleep("s", 0)

    async def another_task(self) -> None:
        async def elsewhere() -> None:
            await self.transaction.checkpoint()

        await asyncio.ensure_future(elsewhere())

    async def wait_for(self) -> None:
        await asyncio.wait_for(self.transaction.sleep("s", 0), 1)

    async def sync_in_async(self) -> None:
        self.transaction.sync.checkpoint()

    async def within_a_step(self) -> None:
        async def inside() -> None:
            await self.transaction.set_timer("t", 1)

        await self.transaction.step("s", inside)

    async def negative(self) -> None:
        await self.transaction.sleep("s", -1)

    async def huge(self) -> None:
        await self.transaction.set_timer("t", 1e30)

    async def no_number(self) -> None:
        await self.transaction.wait_message("m", timeout_s=float("nan"))

    async def each_over_no_sequence(self) -> None:
        await self.transaction.each("loop", {1, 2}, self.give)  # type: ignore[arg-type]

    async def each_that_changes_before_a_step(self) -> None:
        async def body(item: int) -> None:
            self.kept = item
            await self.transaction.step("s", nothing)

        await self.transaction.each("loop", range(3), body)

    async def gather_of_no_steps(self) -> None:
        await self.transaction.gather(nothing)  # type: ignore[arg-type]

    async def child_of_no_state(self) -> None:
        await self.transaction.start("c", {"n": 1})  # type: ignore[arg-type]

    async def child_with_a_negative_delay(self) -> None:
        await self.transaction.start("c", Child(), delay_s=-1)

    async def child_of_a_huge_priority(self) -> None:
        await self.transaction.start("c", Child(), priority=1000)


SAID = {
    "step_gives_an_object": "step 's'.a[0]: a object is neither a JSON value nor bytes: a step returns those",
    "step_gives_too_much": "bytes packed; the limit is 200: store it elsewhere, and return where it is",
    "snapshot_too_large": "Mistaken.kept takes 602 bytes of ",
    "field_of_an_object": "Mistaken.kept: can't be written down: ",
    "update_of_an_object": "data.n: a set is neither a JSON value nor bytes",
    "update_too_large": "the limit is 200",
    "result_of_an_object": "result: a object is neither a JSON value nor bytes",
    "name_no_text": "a name is a text of 1 to 200 printable characters, not 7",
    "name_empty": "a name is a text of 1 to 200 printable characters, not ''",
    "name_twice": "the name 's' is used twice in one pass",
    "another_task": "checkpoint: called from a task that isn't run's own. Await it there",
    "wait_for": "use `async with asyncio.timeout(s)`, not asyncio.wait_for",
    "sync_in_async": "in an async one await checkpoint",
    "within_a_step": "set_timer: not in a step (step 's'): return from the step first",
    "negative": "sleep 's': seconds must be a number from 0 to 315360000, not -1",
    "huge": "set_timer 't': seconds must be a number from 0 to 315360000, not 1e+30",
    "no_number": "wait_message 'm': seconds must be a number from 0 to 315360000, not nan",
    "each_over_no_sequence": "each 'loop': items must be a sequence (a range, a list)",
    "each_that_changes_before_a_step": "Call steps and waits first, then change and send",
    "gather_of_no_steps": "gather: takes what self.transaction.step(...) returns",
    "child_of_no_state": "start 'c': takes a State that holds its input, or a State's name and its input",
    "child_with_a_negative_delay": "delay_s must be from 0",
    "child_of_a_huge_priority": "priority must be",
}


@pytest.mark.parametrize("what", SAID)
async def test_a_mistake_in_run(house: House, probe: Probe, what: str) -> None:
    house.options["limits"] = LIMITS
    tx, stay = await house.run(Mistaken, f'{{"what": "{what}"}}')
    await stay.leaving()
    found = await house.store.get(tx)
    assert found is not None
    assert (found.status, found.trace is None) == ("failed", False)
    assert SAID[what] in str(found.trace)
    assert f"in run of State Mistaken, transaction {tx}" in str(found.trace)
    assert found.error is not None
    assert SAID[what] not in found.error.message, "that is for operators"
    probe.go.set()  # mended; what it was is still there
    assert await house.store.retry(tx, "once") == t.Retried("pending")
    await (await house.claim(Mistaken, tx)).leaving()
    assert await house.end(tx) == ("finished", "kept")


class Handling(Probed):
    """Does in its handler what only `run` may."""

    n: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        match data:
            case "sleep":
                await self.transaction.sleep("s", 1)
            case "wait":
                await self.transaction.wait_message("s")
            case "each":
                await self.transaction.each("s", [1], nothing)  # type: ignore[arg-type]
            case "checkpoint":
                await self.transaction.checkpoint()
            case "restart":
                await self.transaction.restart()
            case "field":
                self.n = object()  # type: ignore[assignment]
        await self.transaction.send_update(data)


INSTEAD = {
    "sleep": "set_timer calls on_timer later", "wait": "write on_update", "each": "a loop belongs into run",
    "checkpoint": "it is committed when it returns", "restart": "set a field, and let run restart itself",
    "field": "Handling.n: can't be written down",
}  # fmt: skip


@pytest.mark.parametrize("what", INSTEAD)
async def test_a_mistake_in_a_handler(
    house: House, probe: Probe, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The turn leaves no trace, its sender is told so, the log says why, and the next message is handled."""
    tx = await house.start(Handling)
    me = await house.attach(tx, "me")
    await house.send(tx, what, me)
    await house.send(tx, "fine", me)
    stay = await house.claim(Handling, tx)
    await stay.idle()
    assert stay.actor.history.head.seq == 2
    assert await house.refusals(tx) == [("me", 1, "state_error")]
    assert await house.updates(tx) == ["fine"]
    assert stay.actor.history.committed == b'{"n":1}'
    logged = " ".join(capsys.readouterr().out.split())
    assert INSTEAD[what] in logged
    assert "hook=on_update state=Handling" in logged
    assert f"tx={tx}" in logged
