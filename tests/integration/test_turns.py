"""The rules of turns: all or nothing, no overlap, rollback, what is misused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import Field, PrivateAttr

from orbit import Connection, UsageError
from orbit.config import Limits
from orbit.errors import BadRequest, TooLarge
from orbit.worker.surroundings import Leaving
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed, forever, nothing, steps_of_the_loop

# ---- all or nothing


class Counter(Probed, stays_open=False):
    total: int
    n: int = 0

    async def run(self) -> int:
        while self.n < self.total:
            self.n += 1
            await self.transaction.send_update(self.n)
        return self.n


@pytest.mark.parametrize("after", [False, True])
async def test_a_loop_on_a_field_is_neither_ahead_nor_behind_after_a_crash_at_any_commit(
    house: House, after: bool
) -> None:
    for at in range(1, 6):
        tx = await house.start(Counter, '{"total": 4}')
        tap = Tap(house.store)
        if after:
            tap.crash_after = at
        else:
            tap.crash_before = at
        stay = await house.claim(Counter, tx, tap)
        await tap.crashed.wait()
        await stay.kill()
        if await house.store.get(tx) and (await house.store.get(tx)).status != "finished":  # type: ignore[union-attr]
            await (await house.claim(Counter, tx)).leaving()
        assert await house.updates(tx) == [1, 2, 3, 4]
        assert await house.end(tx) == ("finished", 4)


class TwoFields(Probed, stays_open=False):
    a: int = 0
    b: int = 0

    async def run(self) -> None:
        probe = Probed.probe
        self.a += 1
        self.b += 1
        await self.transaction.send_update("one", "two")
        self.a += 1
        await probe.stop_here()
        self.b += 1
        await self.transaction.checkpoint()


async def test_a_turn_is_one_commit_and_what_is_not_committed_is_not_there(house: House, probe: Probe) -> None:
    tx, stay = await house.run(TwoFields)
    await probe.there.wait()
    (commit,) = stay.tap.commits
    assert len(commit.entries) == 2
    assert commit.snapshot == b'{"a":1,"b":1}'
    await stay.kill()
    assert await house.updates(tx) == ["one", "two"]
    probe.go.set()
    again = await house.claim(TwoFields, tx)
    await again.leaving()
    assert again.actor.history.committed == b'{"a":3,"b":3}'


class Quiet(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> None:
        for _ in range(5):
            await self.transaction.checkpoint()
        await self.transaction.step("s", nothing)
        await self.transaction.step("t", nothing)


async def test_an_empty_turn_writes_nothing(house: House) -> None:
    _, stay = await house.run(Quiet, '{"n": 0}')
    await stay.leaving()
    assert [sorted(name.split("\x1f")[1] for name, _ in commit.names) for commit in stay.tap.commits] == [
        [],  # the fields as validated, before anything depends on them
        ["s"],
        ["t"],
        [],  # the end
    ]


# ---- no overlap


class Overlap(Probed):
    inside: int = 0
    log: list[str] = Field(default_factory=list)

    def enter(self, name: str) -> None:
        self.inside += 1
        assert self.inside == 1, f"{name} beside another turn"
        self.log.append(name)

    def leave(self) -> None:
        self.inside -= 1

    async def run(self) -> None:
        for n in range(20):
            self.enter(f"run {n}")
            await asyncio.sleep(0)
            self.leave()
            await self.transaction.send_update("run")

    async def on_update(self, connection: Connection, data: object) -> None:
        self.enter(f"message {data}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.leave()
        await self.transaction.send_update("handler")


async def test_turns_do_not_overlap_and_take_each_other_by_turns(house: House) -> None:
    house.linger_s = 0.2
    tx = await house.start(Overlap)
    for n in range(10):
        await house.send(tx, n)
    stay = await house.claim(Overlap, tx)
    await stay.idle()
    log = stay.actor.state.log  # type: ignore[attr-defined]
    assert [line for line in log if line.startswith("message")] == [f"message {n}" for n in range(10)]
    assert [line for line in log if line.startswith("run")] == [f"run {n}" for n in range(20)]
    assert log.index("message 9") < log.index("run 19"), "handlers wait for run to end"
    assert not house.metrics.failures.collect()[0].samples


class TimedOut(Probed):
    """A verb of `run` is cancelled while a handler has its turn: what follows must wait for that."""

    async def run(self) -> None:
        probe = Probed.probe
        try:
            async with asyncio.timeout(None) as probe.limit:
                await self.transaction.step("slow", self.slow)
        except TimeoutError:
            probe.seen.append("timed out")
        await self.transaction.send_update("after")

    async def slow(self) -> None:
        probe = Probed.probe
        try:
            await forever()
        finally:
            probe.go.set()

    async def on_update(self, connection: Connection, data: object) -> None:
        probe = Probed.probe
        probe.seen.append("handler begins")
        probe.expire()
        await probe.go.wait()
        await steps_of_the_loop()
        probe.seen.append("handler ends")


async def test_a_verb_that_is_cancelled_waits_for_the_turn(house: House, probe: Probe) -> None:
    tx, stay = await house.run(TimedOut)
    await house.send(tx, 1)
    await stay.idle()
    assert probe.seen == ["handler begins", "handler ends", "timed out"]
    assert await house.updates(tx) == ["after"]


class CutOff(Probed):
    n: int = 0

    async def run(self) -> None:
        probe = Probed.probe
        self.n = 1
        try:
            async with asyncio.timeout(None) as probe.limit:
                await self.transaction.send_update("sent")
        except TimeoutError:
            probe.seen.append(f"timed out with {self.n}")


async def test_a_cancelled_verb_settles_its_commit_first(house: House, probe: Probe) -> None:
    tx = await house.start(CutOff)
    tap = Tap(house.store)

    async def hold(_: Any) -> None:
        if not tap.commits:
            probe.expire()
            await steps_of_the_loop()
            probe.seen.append("committed")

    tap.before_commit = hold
    stay = await house.claim(CutOff, tx, tap)
    await stay.idle()
    assert probe.seen == ["committed", "timed out with 1"]
    assert await house.updates(tx) == ["sent"]


# ---- handlers that fail


class Failing(Probed):
    items: list[int] = Field(default_factory=list)

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.items.append(data)
        await self.transaction.send_update(data)
        if data == 2:
            raise ValueError("no two")
        if data == 3:
            connection.reject("no three")


async def test_a_handler_that_raises_leaves_no_trace(house: House) -> None:
    tx = await house.start(Failing)
    me = await house.attach(tx, "me")
    for n in (1, 2, 3, 4):
        await house.send(tx, n, me)
    stay = await house.claim(Failing, tx)
    await stay.idle()
    assert stay.actor.state.items == [1, 4]  # type: ignore[attr-defined]
    assert await house.updates(tx) == [1, 4]
    assert await house.refusals(tx) == [("me", 2, "state_error"), ("me", 3, "forbidden")]
    assert len(stay.tap.commits) == 4


class Swallowing(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        try:
            connection.reject("no")
        except BaseException:
            await self.transaction.send_update("swallowed")


async def test_a_rejection_that_is_swallowed_counts_all_the_same(house: House) -> None:
    tx = await house.start(Swallowing)
    await house.send(tx, 1, await house.attach(tx, "me"))
    await (await house.claim(Swallowing, tx)).idle()
    assert await house.updates(tx) == []
    assert await house.refusals(tx) == [("me", 1, "forbidden")]


class Tallied(Probed):
    n: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        await connection.send([self.n, data])
        await self.transaction.send_update([self.n, data])


@pytest.mark.parametrize("after", [False, True])
async def test_a_message_is_handled_once_over_a_crash_at_any_commit(house: House, after: bool) -> None:
    for at in (1, 2, 3):
        tx = await house.start(Tallied)
        me = await house.attach(tx, f"me-{at}")
        for n in (1, 2, 3):
            await house.send(tx, n, me)
        tap = Tap(house.store)
        if after:
            tap.crash_after = at
        else:
            tap.crash_before = at
        stay = await house.claim(Tallied, tx, tap)
        await tap.crashed.wait()
        await stay.kill()
        again = await house.claim(Tallied, tx)
        await again.idle()
        assert await house.updates(tx) == [[n, n] for n in (1, 1, 2, 2, 3, 3)]
        assert await house.refusals(tx) == []
        assert again.actor.history.committed == b'{"n":3}'


class Caches(Probed):
    n: int = 0
    _cache: list[int] = PrivateAttr(default_factory=list)

    async def on_update(self, connection: Connection, data: Any) -> None:
        self._cache.append(data)
        self.n = data
        Probed.probe.seen.append(list(self._cache))
        if data == 2:
            raise ValueError


async def test_private_attributes_are_made_anew_at_a_rollback(house: House, probe: Probe) -> None:
    tx = await house.start(Caches)
    for n in (1, 2, 3):
        await house.send(tx, n)
    await (await house.claim(Caches, tx)).idle()
    assert probe.seen == [[1], [1, 2], [3]]


# ---- limits and misuse


class Large(Probed, stays_open=False):
    n: int = 0
    text: str = ""

    async def run(self) -> None:
        probe = Probed.probe
        for data in ("x" * 2_000, float("nan"), object()):
            self.n += 1
            try:
                await self.transaction.send_update(data)
            except (TooLarge, BadRequest) as error:
                probe.errors.append(error)
                probe.seen.append(self.n)
        self.text = "y" * 2_000
        try:
            await self.transaction.checkpoint()
        except TooLarge as error:
            probe.errors.append(error)
            probe.seen.append(self.text)


async def test_what_is_over_a_limit_raises_in_the_state_and_rolls_the_turn_back(house: House, probe: Probe) -> None:
    house.options["limits"] = Limits(data_bytes=1_000, snapshot_bytes=1_000)
    tx, stay = await house.run(Large)
    await stay.leaving()
    assert probe.seen == [0, 0, 0, ""]
    assert "2003 bytes" in str(probe.errors[0])
    assert "1000" in str(probe.errors[0])
    assert "Large.text takes 2002 bytes of 2017; the limit of all fields is 1000" in str(probe.errors[3])
    assert await house.updates(tx) == []


class Unbuildable(Probed):
    n: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n = data


async def test_fields_that_no_snapshot_can_hold_fail_the_turn_not_the_transaction(house: House) -> None:
    tx = await house.start(Unbuildable)
    me = await house.attach(tx, "me")
    await house.send(tx, "no number", me)
    await house.send(tx, 7, me)
    stay = await house.claim(Unbuildable, tx)
    await stay.idle()
    assert await house.refusals(tx) == [("me", 1, "state_error")]
    assert stay.actor.history.committed == b'{"n":7}'


class WrongTask(Probed, stays_open=False):
    async def run(self) -> None:
        probe = Probed.probe

        async def elsewhere() -> None:
            await self.transaction.send_update("x")

        for attempt in (
            asyncio.ensure_future(elsewhere()),
            asyncio.ensure_future(asyncio.wait_for(awaited(self.transaction.send_update("y")), 1)),
        ):
            try:
                await attempt
            except UsageError as error:
                probe.errors.append(error)
        try:
            self.transaction.sync.checkpoint()
        except UsageError as error:
            probe.errors.append(error)


async def awaited(verb: Any) -> None:
    await verb


async def test_a_verb_in_another_task_is_an_error_that_names_asyncio_timeout(house: House, probe: Probe) -> None:
    tx, stay = await house.run(WrongTask)
    await stay.leaving()
    assert len(probe.errors) == 3
    assert all("asyncio.timeout" in str(error) for error in probe.errors[:2])
    assert await house.updates(tx) == []


# ---- input


class Picky(Probed, stays_open=False):
    n: int

    async def run(self) -> None:
        Probed.probe.seen.append("run")


async def test_input_that_python_refuses_fails_with_fields_and_reasons_without_values(
    house: House, probe: Probe
) -> None:
    tx, stay = await house.run(Picky, '{"n": "top secret"}')
    await stay.leaving()
    status, (kind, text) = await house.end(tx)
    assert (status, kind) == ("failed", "ValidationError")
    assert text.startswith("n: ")
    assert "secret" not in text
    assert probe.seen == []


# ---- refused commits


async def test_after_a_refused_commit_the_actor_is_dropped_and_the_transaction_goes_on(
    house: House, probe: Probe
) -> None:
    tx, stay = await house.run(TwoFields)
    await probe.there.wait()
    second = await house.claim(TwoFields, tx)  # its lease is over: another takes it
    probe.go.set()
    assert await stay.leaving() is Leaving.HANDED_OVER
    await stay.release()
    await second.leaving()
    fenced = house.metrics.commits["fenced"]._value.get()
    assert fenced == 1
    assert await house.updates(tx) == ["one", "two", "one", "two"]
    assert (await house.end(tx))[0] == "finished"


async def test_a_message_that_redis_lost_after_it_was_read_rewinds_the_actor(house: House, probe: Probe) -> None:
    tx = await house.start(Failing)
    tap = Tap(house.store)

    async def lose(_: Any) -> None:
        if not tap.commits:
            await house.store.link.write("DEL", house.store.keys.transaction(tx) + ":inbox")

    tap.before_commit = lose
    await house.send(tx, 1)
    stay = await house.claim(Failing, tx, tap)
    assert await stay.leaving() is Leaving.HANDED_OVER
    assert house.metrics.commits["rewound"]._value.get() == 1
    await stay.release()
    assert (await house.store.get(tx)).status == "pending"  # type: ignore[union-attr]
    await house.send(tx, 4)
    await (await house.claim(Failing, tx)).idle()
    assert await house.updates(tx) == [4]
