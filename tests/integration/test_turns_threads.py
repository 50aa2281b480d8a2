"""Plain hooks: in threads of their own, with the same verbs, blocking."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from pydantic import Field

from orbit import Connection, Unloaded, UsageError
from orbit.worker.surroundings import Leaving
from tests.integration.house import House
from tests.integration.probes import Probe, Probed

TENANT: ContextVar[str] = ContextVar("TENANT")


class Plain(Probed, stays_open=False):
    n: int = 0

    def run(self) -> dict[str, Any]:
        verbs = self.transaction.sync
        first = verbs.step("plain", self.work, 1)
        second = verbs.step("async", self.work_async, 2)
        both = verbs.gather(self.transaction.step("x", self.work, 3), self.transaction.step("y", self.work_async, 4))
        for _ in range(3):
            self.n += 1
            verbs.send_update(self.n)
        verbs.send_update("once", once="once")
        verbs.each("loop", [10, 20], self.body)
        verbs.checkpoint()
        return {"steps": [first, second, *both], "n": self.n}

    def work(self, item: int) -> int:
        self.transaction.sync.send_update(f"step {item}")
        return item

    async def work_async(self, item: int) -> int:
        return item

    def body(self, item: int) -> None:
        self.n += item
        self.transaction.sync.send_update(self.n)

    def on_update(self, connection: Connection, data: Any) -> None:
        Probed.probe.seen.append(threading.current_thread().name)
        connection.sync.send({"you": data})
        self.transaction.sync.send_update({"all": data})


async def test_a_plain_run_has_all_the_verbs(house: House) -> None:
    tx, stay = await house.run(Plain)
    await stay.leaving()
    assert await house.end(tx) == ("finished", {"steps": [1, 2, 3, 4], "n": 33})
    assert await house.updates(tx) == ["step 1", "step 3", 1, 2, 3, "once", 13, 33]


class Restarts(Probed, stays_open=False):
    n: int = 0

    def run(self) -> int:
        self.n += 1
        if self.n < 3:
            self.transaction.sync.restart()
        self.transaction.sync.finish(self.n)
        raise AssertionError("finish never returns in run")


async def test_restart_and_finish_leave_a_plain_run(house: House) -> None:
    tx, stay = await house.run(Restarts)
    await stay.leaving()
    assert await house.end(tx) == ("finished", 3)


class PlainHandler(Probed):
    items: list[int] = Field(default_factory=list)

    def on_new_connection(self, connection: Connection) -> None:
        connection.sync.send("hello")

    def on_update(self, connection: Connection, data: Any) -> None:
        self.items.append(data)
        Probed.probe.seen.append(threading.current_thread() is threading.main_thread())
        connection.sync.send(data)
        if data == 2:
            raise ValueError
        if data == 3:
            connection.reject("no")


async def test_plain_handlers_roll_back_and_refuse_as_async_ones(house: House, probe: Probe) -> None:
    tx = await house.start(PlainHandler)
    me = await house.attach(tx, "me")
    for n in (1, 2, 3, 4):
        await house.send(tx, n, me)
    stay = await house.claim(PlainHandler, tx)
    await stay.idle()
    assert await house.updates(tx) == ["hello", 1, 4]
    assert await house.refusals(tx) == [("me", 2, "state_error"), ("me", 3, "forbidden")]
    assert probe.seen == [False] * 4
    assert stay.actor.history.committed == b'{"items":[1,4]}'


class Misused(Probed, stays_open=False):
    def run(self) -> None:
        probe = Probed.probe
        for misuse in (self.transaction.checkpoint, lambda: self.elsewhere(self.transaction.sync.checkpoint)):
            try:
                misuse()
            except UsageError as error:
                probe.errors.append(error)

    def elsewhere(self, verb: Callable[[], object]) -> None:
        errors: list[BaseException] = []

        def call() -> None:
            try:
                verb()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        raise errors[0]


async def test_the_wrong_verbs_say_what_to_use(house: House, probe: Probe) -> None:
    _, stay = await house.run(Misused)
    await stay.leaving()
    assert ["sync.checkpoint" in str(error) for error in probe.errors] == [True, True]


class Carried(Probed, stays_open=False):
    def run(self) -> list[str]:
        return [TENANT.get(), self.transaction.sync.step("s", TENANT.get)]


async def test_context_variables_are_carried_into_threads(house: House) -> None:
    TENANT.set("acme")
    tx, stay = await house.run(Carried)
    await stay.leaving()
    assert await house.end(tx) == ("finished", ["acme", "acme"])


class Waiting(Probed):
    def run(self) -> None:
        probe = Probed.probe
        try:
            self.transaction.sync.step("wait", self.wait)
        except Unloaded:
            probe.seen.append("unloaded")
        finally:
            try:
                self.transaction.sync.send_update("too late")
            except Unloaded:
                probe.seen.append("still unloaded")

    async def wait(self) -> None:
        Probed.probe.there.set()
        await asyncio.get_running_loop().create_future()


async def test_a_plain_run_that_waits_in_a_verb_is_unloaded_at_once(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Waiting)
    await probe.there.wait()
    stay.actor.unload()
    assert await stay.leaving() is Leaving.HANDED_OVER
    await stay.actor.threads.none.wait()
    assert probe.seen == ["unloaded", "still unloaded"]
    assert await house.updates(tx) == []


class Stuck(Probed):
    n: int = 0

    def run(self) -> None:
        probe = Probed.probe
        self.n = 1
        probe.loop.call_soon_threadsafe(probe.there.set)
        probe.hold.wait()
        self.transaction.sync.send_update("too late")


async def test_a_stuck_thread_is_dropped_and_commits_nothing(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Stuck)
    await probe.there.wait()
    stay.actor.unload()
    stay.drop.set()
    assert await stay.leaving() is Leaving.HANDED_OVER
    assert stay.actor.threads.alive == 1
    probe.hold.set()
    await stay.actor.threads.none.wait()
    await asyncio.gather(*stay.actor.tasks, return_exceptions=True)
    assert await house.updates(tx) == []


class SlowHandler(Probed):
    n: int = 0

    def on_update(self, connection: Connection, data: Any) -> None:
        probe = Probed.probe
        probe.loop.call_soon_threadsafe(probe.there.set)
        probe.hold.wait()
        self.n += 1


async def test_a_plain_handler_that_ends_while_it_is_handed_over_is_committed(house: House, probe: Probe) -> None:
    tx = await house.start(SlowHandler)
    await house.send(tx, 1)
    stay = await house.claim(SlowHandler, tx)
    await probe.there.wait()
    stay.actor.unload()
    probe.hold.set()
    assert await stay.leaving() is Leaving.HANDED_OVER
    assert stay.actor.history.committed == b'{"n":1}'


class SlowStep(Probed, stays_open=False):
    async def run(self) -> str:
        result: str = await self.transaction.step("slow", self.slow)
        return result

    def slow(self) -> str:
        probe = Probed.probe
        probe.seen.append("step")
        probe.loop.call_soon_threadsafe(probe.there.set)
        probe.hold.wait()
        return "slow"


async def test_a_step_in_a_thread_is_waited_for_at_a_hand_over(house: House, probe: Probe) -> None:
    tx, stay = await house.run(SlowStep)
    await probe.there.wait()
    stay.actor.unload()
    probe.hold.set()
    assert await stay.leaving() is Leaving.HANDED_OVER
    await stay.release()
    await (await house.claim(SlowStep, tx)).leaving()
    assert probe.seen == ["step"]
    assert await house.end(tx) == ("finished", "slow")


class Impatient(Probed, stays_open=False):
    async def run(self) -> str:
        probe = Probed.probe
        try:
            async with asyncio.timeout(None) as probe.limit:
                await self.transaction.step("slow", self.slow)
        except TimeoutError:
            return "timed out"
        return "not"

    def slow(self) -> str:
        probe = Probed.probe
        probe.loop.call_soon_threadsafe(probe.expire)
        probe.hold.wait()
        return "slow"


async def test_a_time_limit_leaves_a_steps_thread_alone_and_records_nothing_of_it(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Impatient)
    await stay.leaving()
    assert await house.end(tx) == ("finished", "timed out")
    assert stay.actor.threads.alive == 1
    probe.hold.set()
    await stay.actor.threads.none.wait()
    assert not any(commit.names for commit in stay.tap.commits)
