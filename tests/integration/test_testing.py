"""`orbit.testing`: States in virtual time, crashed at every point; and it finds what is planted."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any, ClassVar

import pytest

import orbit
from orbit import Connection, State, TransactionFailed, UsageError
from orbit.pytest_plugin import Dev
from orbit.testing import (
    Bench,
    CrashInconsistent,
    SnapshotsUnreadable,
    Stuck,
    assert_crash_consistent,
    replay_snapshots,
    run,
)
from orbit.testing.clock import run_virtual
from orbit.worker.threads import ThreadedCall, Threads

DAY_S = 86_400.0
LISTED = {"default_factory": list}


class Order(State):
    """An order flow that is right."""

    ledger: ClassVar[dict[str, int]] = {}
    item: str = "tea"
    paid: str | None = None
    shipped: bool = False

    async def run(self) -> str:
        self.paid = await self.transaction.step("pay", self.pay)
        await self.transaction.send_update({"paid": self.paid}, once="paid")
        await self.transaction.sleep("pack", DAY_S)
        answer = await self.transaction.wait_message("confirm", timeout_s=DAY_S)
        self.shipped = answer is not None
        await self.transaction.send_update({"shipped": self.shipped}, once="shipped")
        return self.paid

    async def pay(self) -> str:
        await asyncio.sleep(1)
        self.ledger.setdefault(orbit.current_step().key, len(self.ledger) + 1)
        return "receipt"


async def ordering(bench: Bench) -> Any:
    Order.ledger.clear()
    job = await bench.start(Order())
    await job.until_updates(1)
    client = await job.connect("ann")
    await client.send("yes")
    await job.result()
    return sorted(Order.ledger.values())


def test_a_day_passes_in_a_moment() -> None:
    async def scenario(bench: Bench) -> float:
        await ordering(bench)
        return bench.now_s

    began = time.monotonic()
    assert run(scenario, Order) >= DAY_S
    assert time.monotonic() - began < 30


def test_a_thread_left_by_another_loop_holds_no_clock() -> None:
    """Its loop ended first; it can't say any more that it is done."""
    release = threading.Event()

    async def leave() -> None:
        call = asyncio.ensure_future(ThreadedCall(Threads(), "left alone").run(lambda: True, release.wait))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    asyncio.run(leave())
    try:
        asyncio.run(asyncio.wait_for(asyncio.to_thread(run_virtual, lambda: asyncio.sleep(DAY_S)), 60))
    finally:
        release.set()


def test_one_that_is_right_is_found_right() -> None:
    report = assert_crash_consistent(ordering, Order)
    assert report.commits >= 12
    assert len(report.points) > report.commits, "it is crashed where it waits, too"
    assert report.outcome["returned"] == [1]
    assert report.outcome["Order 1"]["log"] == [{"paid": "receipt"}, {"shipped": True}, "end: finished"]


# ---- planted


class CountsBeforeStep(State):
    n: int = 0

    async def run(self) -> int:
        self.n += 1
        await self.transaction.step("work", nothing)
        return self.n


class ActsOutsideAStep(State):
    world: ClassVar[list[str]] = []

    async def run(self) -> None:
        self.world.append("charged")
        await self.transaction.step("work", nothing)


class SendsWithoutOnce(State):
    async def run(self) -> None:
        await self.transaction.send_update("started")
        await self.transaction.step("work", nothing)


class HoldsAReference(State):
    seen: list[int] = []  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def run(self) -> list[int]:
        seen = self.seen
        for n in range(2):
            seen.append(n)
            await self.transaction.checkpoint()
        return self.seen


class ForgetsAnAnswer(State, stays_open=True):
    """Keeps what it heard in a cache, which no snapshot holds."""

    _heard: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self._heard += 1
        await self.transaction.send_update(self._heard)


async def nothing() -> None:
    await asyncio.sleep(0.01)


def of(cls: type[State], result: Callable[[], Any] = lambda: None) -> Callable[[Bench], Any]:
    async def scenario(bench: Bench) -> Any:
        world = getattr(cls, "world", None)
        if world is not None:
            world.clear()
        await (await bench.start(cls())).result()
        return None if world is None else list(world)

    return scenario


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (CountsBeforeStep, "the worker is lost after commit 1 (fields)"),
        (ActsOutsideAStep, "['charged', 'charged']"),
        (SendsWithoutOnce, "the worker is lost after commit 1 (an update)"),
        (HoldsAReference, "the fields are rebuilt after every commit (a reference is held over one)"),
    ],
)
def test_what_is_planted_is_found_and_its_place_told(cls: type[State], said: str) -> None:
    with pytest.raises(CrashInconsistent) as raised:
        assert_crash_consistent(of(cls), cls, seed=7)
    report = str(raised.value)
    assert said in report
    assert "seed 7" in report
    assert "--- without a crash" in report
    assert "+++ with it" in report


def test_a_cache_that_is_taken_for_a_field_is_found() -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.start(ForgetsAnAnswer())
        for n in range(2):
            await job.send(n)
            await job.until_updates(n + 1)
        await job.until_idle()

    with pytest.raises(CrashInconsistent, match="the worker is lost"):
        assert_crash_consistent(scenario, ForgetsAnAnswer)


def test_one_point_is_tried_again_alone() -> None:
    assert_crash_consistent(of(CountsBeforeStep), CountsBeforeStep, points=[0])
    with pytest.raises(CrashInconsistent, match="point 3 of"):
        assert_crash_consistent(of(CountsBeforeStep), CountsBeforeStep, points=[3])


# ---- what it can be tried on


class Reads(State):
    """Reads an async generator, and holds its turn meanwhile."""

    n: int = 0
    heard: bool = False

    async def run(self) -> bool:
        async for n in numbers(self.n):
            self.n = n
            await self.transaction.send_update(n)
        return self.heard

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.heard = True


async def numbers(after: int) -> AsyncIterator[int]:
    for n in range(after + 1, 4):
        await asyncio.sleep(1)
        yield n


def test_a_message_that_waits_for_its_turn_when_the_worker_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> Any:
        job = await bench.start(Reads())
        await job.until_updates(1)
        await job.send("hello")
        return await job.result()

    report = assert_crash_consistent(scenario, Reads)
    assert report.outcome["returned"] is True
    assert [record for record in caplog.records if record.name == "asyncio"] == [], "its generators are closed"


# ---- what a bench can do


class Room(State, stays_open=True):
    members: list[str] = []  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def on_new_connection(self, connection: Connection) -> None:
        if connection.subject == "Mallory":
            connection.reject("not you")
        self.members.append(str(connection.subject))
        await connection.send("welcome")

    async def on_disconnect(self, connection: Connection) -> None:
        self.members.remove(str(connection.subject))
        await self.transaction.send_update({"left": connection.subject})

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "bad":
            connection.reject("mind your words")
        if data == "remind":
            await self.transaction.set_timer("reminder", DAY_S)
        elif data == "count":
            children = [await self.transaction.start(f"c{n}", Child(n=n)) for n in range(3)]
            await self.transaction.send_update([child.id for child in children])
        elif data == "fail":
            await self.transaction.fail("on purpose")
        else:
            await self.transaction.send_update([connection.subject, data])

    async def on_timer(self, name: str) -> None:
        await self.transaction.send_update({"timer": name})

    def view(self) -> list[str]:
        return self.members


class Child(State):
    n: int

    async def run(self) -> int:
        return self.n


def test_clients_come_speak_are_refused_and_leave() -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.start(Room)
        ann, bob = await job.connect("ann", subject="Ann"), await job.connect("bob", subject="Bob")
        await ann.send("hello")
        assert await bob.send("bad") == 1
        await bench.settle()
        assert await ann.updates() == ["welcome", ["Ann", "hello"]]
        (refusal,) = await bob.refusals()
        assert (refusal.mid, refusal.code, refusal.message) == (1, "forbidden", "mind your words")
        assert await ann.refusals() == []
        assert await job.view() == ["Ann", "Bob"]
        await bob.disconnect()
        await bench.pass_time(4.9)
        assert {"left": "Bob"} not in await job.updates()
        await bench.pass_time(0.2)
        assert {"left": "Bob"} in await job.updates()
        mallory = await job.connect("mallory", subject="Mallory")
        await bench.settle()
        with pytest.raises(orbit.RequestError):
            await mallory.send("let me in")

    run(scenario, Room)


def test_timers_children_retry_cancel_and_a_hand_over() -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.start(Room)
        ann = await job.connect("ann", subject="Ann")
        await ann.send("remind")
        await ann.send("count")
        (ids,) = await job.until_updates(1)
        for child, n in zip(ids, range(3), strict=True):
            assert await bench.job(child, Child).result() == n
        await bench.hand_over()
        await bench.crash()
        await bench.pass_time(DAY_S + 1)
        assert (await job.updates())[-1] == {"timer": "reminder"}
        await ann.send("fail")
        with pytest.raises(TransactionFailed, match="on purpose"):
            await job.result()
        await job.retry()
        await job.until_idle()
        await job.cancel("enough")
        assert (await job.ended()).status == "cancelled"

    run(scenario, Room, Child)


class Threaded(State):
    def run(self) -> list[Any]:
        self.transaction.sync.sleep("a while", 30)
        found = self.transaction.sync.step("plain", plain, 3)
        other = self.transaction.sync.step("process", plain, 4, in_process=True)
        return [found, other[0] != os.getpid()]


def plain(n: int) -> list[int]:
    threading.Event().wait(0.01)
    return [os.getpid(), n]


def test_threads_and_processes_work_in_real_time_while_the_clock_stands_still() -> None:
    async def scenario(bench: Bench) -> Any:
        job = await bench.start(Threaded)
        result = await job.result()
        assert 30 <= bench.now_s < 60
        return result

    assert run(scenario, Threaded) == [[os.getpid(), 3], True]


class Processed(State):
    async def run(self) -> None:
        await self.transaction.step("process", plain, 1, in_process=True)
        await self.transaction.sleep("long", 3600)


def test_the_clock_stands_still_while_the_processes_of_a_lost_worker_end() -> None:
    async def scenario(bench: Bench) -> float:
        job = await bench.start(Processed())
        await job.until_idle()
        await bench.crash()
        return bench.now_s

    assert run(scenario, Processed) < 60


class Endless(State):
    async def run(self) -> None:
        await self.transaction.wait_message("never")


def test_a_scenario_that_can_not_end_says_so() -> None:
    with pytest.raises(Stuck, match="nothing that was waited for has happened"):
        run(of(Endless), Endless)


async def test_in_an_async_test_the_error_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="call this from a plain def"):
        run(of(Endless), Endless)


def test_a_module_gives_its_lifespan_and_middleware() -> None:
    module = ModuleType("app_on_a_bench")
    code = '''
import orbit
seen = []
@orbit.lifespan
async def opened():
    seen.append("opened")
    yield "context"
    seen.append("closed")
@orbit.middleware
async def noted(call, proceed):
    seen.append(call.hook)
    return await proceed()
class Shows(orbit.State):
    async def run(self):
        return self.context
'''
    import sys

    sys.modules["app_on_a_bench"] = module
    exec(code, module.__dict__)

    async def scenario(bench: Bench) -> Any:
        return await (await bench.start(module.Shows)).result()

    assert run(scenario, module) == "context"
    assert module.seen == ["opened", "run", "closed"]


# ---- snapshots


class Migrating(State, name="Job", version=2, stays_open=True):
    total: int

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        return {"total": fields["count"]}


def test_snapshots_of_a_fleet_are_taken_over() -> None:
    lines = [
        '{"state": "Job", "version": 1, "fields": {"count": 3}}',
        '{"state": "Job", "version": 2, "fields": {"total": 3}}',
        "",
        '{"state": "Job", "version": 1, "first": true, "fields": {"count": 4}}',
    ]
    assert replay_snapshots(lines, Migrating) == {("Job", 1): 2, ("Job", 2): 1}


def test_those_that_can_not_be_are_named() -> None:
    lines = [
        '{"state": "Nobody", "version": 1, "fields": {}}',
        '{"state": "Job", "version": 3, "fields": {}}',
        '{"state": "Job", "version": 1, "fields": {}}',
        '{"state": "Job", "version": 2, "fields": {"total": "many"}}',
        '{"state": "Room", "version": 2, "fields": {}}',
    ]
    with pytest.raises(SnapshotsUnreadable) as raised:
        replay_snapshots(lines, Migrating, Room)
    said = str(raised.value).splitlines()
    found = ("no such State", "code is of version 2", "KeyError: 'count'", "total: Input should be", "version 1")
    for line, text in zip(said[1:], found, strict=True):
        assert text in line


# ---- the plugin


class Live(State):
    n: int

    async def run(self) -> int:
        await self.transaction.send_update("working")
        return self.n + 1


def test_a_real_deployment(orbit_dev: Callable[..., Dev]) -> None:
    dev = orbit_dev(Live)
    tx = dev.broker.start(Live(n=1))
    assert [update.data for update in dev.broker.updates(tx)] == ["working"]
    assert dev.broker.result(tx) == 2


async def test_a_real_deployment_in_an_async_test(orbit_dev: Callable[..., Dev]) -> None:
    dev = orbit_dev(Live)
    async with orbit.Client(dev.url) as client:
        tx = await client.start("Live", {"n": 1})
        assert await client.result(tx) == 2
