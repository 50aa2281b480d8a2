"""Children: started once, waited for, cancelled with their parent; over partitions, and whatever worker is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orbit import Connection, State, TransactionFailed, UsageError
from orbit.protocol.ids import TxId
from orbit.protocol.values import pack
from orbit.store import types as t
from orbit.store.outboxes import child_of
from orbit.store.store import Store
from orbit.worker.delivery import deliver
from orbit.worker.surroundings import Leaving
from tests.integration.fleet import Fleet, status, until
from tests.integration.house import House, Stay, Tap
from tests.integration.probes import Probe, Probed, forever, steps_of_the_loop
from tests.support.waiting import soon


class Square(Probed, stays_open=False):
    n: int

    async def run(self) -> int:
        Probed.probe.seen.append(self.n)
        if self.n < 0:
            await self.transaction.fail("no such number")
        return self.n * self.n


class Forever(Probed, stays_open=False):
    async def run(self) -> None:
        Probed.probe.seen.append("child")
        await forever()

    async def on_cancel(self) -> None:
        Probed.probe.seen.append(f"cancelled: {self.transaction.cancel_reason}")


class Sum(Probed, stays_open=False):
    numbers: list[int] = [1, 2, 3]  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def run(self) -> int:
        children = [await self.transaction.start(f"square {n}", Square(n=n)) for n in self.numbers]
        results = [await child.result() for child in children]
        await self.transaction.send_update([child.id for child in children], once="ids")
        return sum(results)


async def children_of(store: Store, tx: TxId) -> list[t.Transaction]:
    page = await store.list(limit=1000)
    return [one for one in page.transactions if one.parent == tx]


async def test_a_sum_of_squares(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Sum)
    await fleet.worker(Sum, Square)
    await until(house.store, tx, status("finished"))
    assert await house.end(tx) == ("finished", 14)
    assert sorted(probe.seen) == [1, 2, 3]
    children = await children_of(house.store, tx)
    assert {child.status for child in children} == {"finished"}
    (ids,) = await house.updates(tx)
    assert {child.tx for child in children} == set(ids)
    assert await house.store.outbox(tx) == t.Outbox(
        children[0].number and (await house.store.get(tx)).number, t.Outcome("finished", b"\x0e"), None, (), False, ()  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("after", [False, True])
async def test_crashed_at_each_commit_each_child_is_started_once(
    house: House, probe: Probe, fleet: Fleet, after: bool
) -> None:
    await fleet.worker(Square)
    for at in range(1, 8):
        probe.seen.clear()
        tx = await house.start(Sum)
        tap = Tap(house.store)
        setattr(tap, "crash_after" if after else "crash_before", at)
        house.options["deliver"] = lambda tx: None  # the worker is lost before it delivers
        while (found := await house.store.get(tx)) is not None and found.status != "finished":
            stay = await house.claim(Sum, tx, tap)
            await let_live(house, tx, stay)
            tap = Tap(house.store) if tap.crashed.is_set() else tap
        assert await house.end(tx) == ("finished", 14), at
        assert sorted(probe.seen) == [1, 2, 3], at
        assert len(await children_of(house.store, tx)) == 3


async def let_live(house: House, tx: TxId, stay: Stay) -> None:
    """Until it crashes, sleeps or ends; what `due` would have delivered in some seconds is delivered at once."""
    crashed = asyncio.ensure_future(stay.tap.crashed.wait())
    while not crashed.done() and not stay.task.done():
        await deliver(house.store, tx)
        await asyncio.wait((crashed, stay.task), timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
    if crashed.done():
        await stay.kill()
    elif stay.task.result() is Leaving.IDLE:
        await stay.release(idle=True)
    crashed.cancel()


async def test_what_nobody_delivered_is_delivered_by_another_worker(house: House, probe: Probe, fleet: Fleet) -> None:
    """The worker is lost right after the commit that holds the start."""
    tx = await house.start(Sum, '{"numbers": [5]}')
    house.options["deliver"] = lambda tx: None
    stay = await house.claim(Sum, tx)
    await soon(lambda: stay.tap.commits)
    await stay.kill()
    await fleet.worker(Sum, Square)
    await until(house.store, tx, status("finished"))
    assert await house.end(tx) == ("finished", 25)


class Careful(Probed, stays_open=False):
    async def run(self) -> list[Any]:
        child = await self.transaction.start("bad", Square(n=-1))
        try:
            return [await child.result()]
        except TransactionFailed as error:
            return [error.status, error.type, error.message]


async def test_a_child_that_fails_raises_in_its_parent(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Careful)
    await fleet.worker(Careful, Square)
    await until(house.store, tx, status("finished"))
    assert await house.end(tx) == ("finished", ["failed", "Failed", "child 'bad': no such number"])


class Guardian(Probed, stays_open=False):
    async def run(self) -> None:
        child = await self.transaction.start("child", Forever())
        await child.result()


async def test_a_cancelled_parent_cancels_its_children(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Guardian)
    await fleet.worker(Guardian, Forever)
    await soon(lambda: "child" in probe.seen)
    await house.store.cancel(tx, "enough")
    await until(house.store, tx, status("cancelled"))
    (child,) = await children_of(house.store, tx)
    await until(house.store, child.tx, status("cancelled"))
    assert probe.seen == ["child", "cancelled: its parent was cancelled"]


async def test_a_child_that_was_not_even_started_is_cancelled_with_its_parent(house: House, probe: Probe) -> None:
    tx = await house.start(Guardian)
    house.options["deliver"] = lambda tx: None
    stay = await house.claim(Guardian, tx)
    await soon(lambda: stay.tap.commits)
    await house.store.cancel(tx, "enough")
    stay.actor.note_cancel()
    await stay.leaving()
    assert await children_of(house.store, tx) == []
    await deliver(house.store, tx)
    (child,) = await children_of(house.store, tx)
    assert child.status == "cancelled"
    await lose(house.store, child.tx)  # the server of its partition failed over
    await deliver(house.store, tx)
    (child,) = await children_of(house.store, tx)
    assert child.status == "cancelled", "a cancel that Redis lost is delivered again"
    await deliver(house.store, tx)
    box = await house.store.outbox(tx)
    assert isinstance(box, t.Outbox)
    assert box.fields == (), "until its child was seen to be over"


async def lose(store: Store, tx: TxId) -> None:
    """As if Redis had never had it."""
    key = store.keys.transaction(tx)
    for found in await store.link.read("KEYS", f"{key}*", at=key):
        await store.link.write("DEL", found.decode())
    await store.link.write("ZREM", store.keys.partition(store.partition_of(tx)) + ":index", tx)


class Spawner(Probed):
    """Starts children from its handler, and leaves them to themselves."""

    async def on_update(self, connection: Connection, data: Any) -> None:
        first = await self.transaction.start("a", Square(n=data))
        second = await self.transaction.start("b", "Square", {"n": data + 1}, priority=3)
        await self.transaction.send_update([first.id, second.id])
        if data == 100:
            raise ValueError("on purpose")


async def test_a_handler_starts_children_with_its_turn(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Spawner)
    await fleet.worker(Spawner, Square)
    for n in (10, 100, 20):
        await house.send(tx, n)
    await until(house.store, tx, lambda found: found.head.seq == 2)
    for ids in await house.updates(tx):
        for child in ids:
            await until(house.store, child, status("finished"))
    assert sorted(probe.seen) == [10, 11, 20, 21]

    async def nothing_left() -> bool:
        box = await house.store.outbox(tx)
        return isinstance(box, t.Outbox) and not box.fields

    await soon(nothing_left)  # their ends are taken, though nobody waits for them


class Parting(Probed, stays_open=False):
    """Ends right after it has started a child."""

    async def run(self) -> str:
        return (await self.transaction.start("child", Square(n=3))).id


async def test_a_child_outlives_a_parent_that_finishes_at_once(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Parting)
    house.options["deliver"] = lambda tx: None
    await (await house.claim(Parting, tx)).leaving()
    await fleet.worker(Square)
    _, child = await house.end(tx)
    await soon(lambda: house.store.get(child))  # `due` finds it in some seconds
    await until(house.store, child, status("finished"))


class Nested(Probed, stays_open=False, retries=0):
    async def run(self) -> None:
        child = await self.transaction.start("again", Nested())
        await child.result()


async def test_a_cycle_ends_with_an_error_that_names_it(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Nested)
    await fleet.worker(Nested)
    await until(house.store, tx, status("failed"))
    traces = [one.trace or "" for one in (await house.store.list(limit=100)).transactions]
    (deepest,) = [trace for trace in traces if "more than 16 generations" in trace]
    assert "Nested -> Nested" in deepest
    assert len(traces) == 16


class Wrongly(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        try:
            match data:
                case "unknown":
                    await self.transaction.start("x", "Nobody", {})
                case "input":
                    await self.transaction.start("x", "Square", {"n": "seven"})
                case "twice":
                    await self.transaction.start("x", Square(n=1))
                    await self.transaction.start("x", Square(n=2))
                case "result":
                    child = await self.transaction.start("x", Square(n=1))
                    await child.result()
                case "no State":
                    await self.transaction.start("x", Square)  # type: ignore[arg-type]
                case "delay":
                    await self.transaction.start("x", Square(n=1), delay_s=-1)
        except Exception as error:
            Probed.probe.errors.append(error)
            raise


async def test_what_can_not_be_started(house: House, probe: Probe, store: Store) -> None:
    await store.publish_states([t.StateRecord("Square", 1, "default", _schema(Square), False, 10, 10.0)])
    said = {
        "unknown": "unknown State 'Nobody'; known: Square", "input": "doesn't fit: n: ", "twice": "'x' is used twice",
        "result": "only run waits for a child", "no State": "takes a State that holds its input",
        "delay": "delay_s must be from 0",
    }  # fmt: skip
    tx = await house.start(Wrongly)
    for what in said:
        await house.send(tx, what)
    await (await house.claim(Wrongly, tx)).idle()
    for error, text in zip(probe.errors, said.values(), strict=True):
        assert text in str(error)
    assert isinstance(probe.errors[3], UsageError)


def _schema(cls: type[State]) -> str:
    import json

    return json.dumps(cls.model_json_schema())


class Backwards(Probed, stays_open=False):
    """Waits for the second child first; what the first one came to is recorded by then."""

    async def run(self) -> list[Any]:
        first = await self.transaction.start("first", Square(n=1))
        second = await self.transaction.start("second", Square(n=2))
        Probed.probe.seen += [first.id, second.id]
        return [await second.result(), await first.result()]


async def test_a_worker_that_gets_full_puts_nobody_to_sleep_for_what_is_there_already(
    house: House, probe: Probe
) -> None:
    """On a full worker a wait ends the stay at once. One that is over as soon as it begins mustn't: nothing would wake
    the transaction again.

    The worker gets full as the second end comes. That end wakes `run`, and the inbox's attendant has no more patience;
    `run` at once begins to wait for the first one, which is recorded; only then the patience is seen to be over.
    """
    house.options["linger_s"] = 3600.0
    tx = await house.start(Backwards)
    stay = await house.claim(Backwards, tx)
    await soon(lambda: stay.actor.pause is not None and len(stay.actor.history.children) == 2)
    fields = {child_of(field)[0]: field for field in stay.actor.history.children}
    first, second = (fields[child] for child in probe.seen)
    await end(house, tx, first, 1)
    stay.actor.nudge()
    await soon(lambda: first not in stay.actor.history.children)
    await steps_of_the_loop()
    await end(house, tx, second, 4)
    stay.actor.hurry()
    assert await stay.leaving() is Leaving.ENDED
    assert await house.end(tx) == ("finished", [4, 1])


async def end(house: House, tx: TxId, field: str, result: int) -> None:
    child, key = child_of(field)
    await house.store.deliver(t.Parent(tx, key), child, t.Outcome("finished", pack(result)))


class Elsewhere(Probed):
    """Keeps a handle of a child that its handler started, and of one that `run` started before its restart."""

    again: bool = False

    async def run(self) -> None:
        if not self.again:
            Probed.probe.seen.append(await self.transaction.start("of run", Square(n=3)))
            self.again = True
            await self.transaction.restart()
        await self.transaction.step("wait", Probed.probe.go.wait)
        for handle in Probed.probe.seen:
            try:
                await handle.result()
            except UsageError as error:
                Probed.probe.errors.append(error)

    async def on_update(self, connection: Connection, data: Any) -> None:
        Probed.probe.seen.append(await self.transaction.start("of a handler", Square(n=4)))


async def test_what_run_did_not_start_it_does_not_wait_for(house: House, probe: Probe) -> None:
    tx = await house.start(Elsewhere)
    stay = await house.claim(Elsewhere, tx)
    await soon(lambda: len(probe.seen) == 1)
    await house.send(tx, "start")
    await soon(lambda: len(probe.seen) == 2)
    probe.go.set()
    await soon(lambda: len(probe.errors) == 2 or stay.task.done())
    assert [str(error) for error in probe.errors] == [
        f"result of {name!r}: only what run itself started, since its last restart, can be waited for"
        for name in ("of run", "of a handler")
    ]
