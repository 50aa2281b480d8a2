"""Each piece of a State's code begins in a context of its own: whoever happened to cause it lends it nothing."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from orbit import Connection
from orbit.protocol.values import pack
from orbit.state import current_step
from orbit.store import types as t
from tests.integration.fleet import Fleet, status, until
from tests.integration.house import House
from tests.integration.probes import Probe, Probed, forever
from tests.support.waiting import soon

MARK: ContextVar[str] = ContextVar("mark", default="")


class Stepping(Probed):
    heard: str = ""

    async def run(self) -> None:
        await self.transaction.step("slow", self.slow)

    async def slow(self) -> None:
        MARK.set("of the step")
        await Probed.probe.stop_here()
        await current_step().send_update("progress")
        await forever()

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.heard = data  # in a step's context this is an error: a step touches no fields
        Probed.probe.seen.append(MARK.get())
        await self.transaction.send_update(data)
        Probed.probe.answered.set()

    async def on_cancel(self) -> None:
        Probed.probe.seen.append(MARK.get())


async def test_a_handler_that_a_steps_commit_gave_cause_for_does_not_run_in_its_context(
    house: House, probe: Probe
) -> None:
    """1. Nothing waited for the transaction when it was claimed, so nobody looks after its inbox yet.
    2. A message comes, and what the owner is told of it is lost.
    3. The commit of a step's progress finds it: its answer begins the part that looks after the inbox.
    """
    tx, stay = await house.run(Stepping)
    await probe.there.wait()
    assert not stay.actor.attended
    await house.store.append(tx, t.NewMessage(pack("hello")))
    probe.go.set()
    await probe.answered.wait()
    await soon(lambda: stay.actor.last_seen is not None)  # it is answered once its turn is committed
    assert probe.seen == [""]
    assert await house.updates(tx) == ["progress", "hello"]


async def test_a_cancel_that_a_steps_commit_found_is_not_handled_in_its_context(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Stepping)
    await probe.there.wait()
    await house.store.cancel(tx, "why")
    probe.go.set()
    await stay.leaving()
    assert probe.seen == [""]


class Marking(Probed, stays_open=False):
    async def run(self) -> str:
        before = MARK.get()
        MARK.set("of another transaction")
        await self.transaction.step("wait", Probed.probe.stop_here)
        return before


async def test_what_is_claimed_when_another_ends_does_not_run_in_its_context(
    house: House, fleet: Fleet, probe: Probe
) -> None:
    """The commit of an end makes room before it is answered: what is claimed for that begins in the other's task."""
    await fleet.worker(Marking, concurrency=1)
    first = await house.start(Marking)
    await probe.there.wait()
    second = await house.start(Marking)
    probe.go.set()
    for tx in (first, second):
        await until(house.store, tx, status("finished"))
        assert await house.end(tx) == ("finished", "")
