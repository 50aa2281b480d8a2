"""`sleep`, `wait_message`: what is recorded of them, whatever is crashed, drained or unloaded meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from orbit import Connection, UsageError
from orbit.worker.lease import clock, now_s
from orbit.worker.surroundings import Leaving
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed
from tests.support.waiting import soon

HOUR_S = 3600.0


class Nap(Probed, stays_open=False):
    seconds: float = 0.1
    n: int = 0

    async def run(self) -> str:
        Probed.probe.seen.append("run")
        self.n += 1
        await self.transaction.sleep("nap", self.seconds)
        Probed.probe.seen.append("awake")
        return f"slept, and began {self.n} times"


async def test_a_sleep_lasts_and_commits_what_was_changed(house: House, probe: Probe) -> None:
    began = time.monotonic()
    tx, stay = await house.run(Nap)
    await stay.leaving()
    assert time.monotonic() - began >= 0.1
    assert await house.end(tx) == ("finished", "slept, and began 1 times")


@pytest.mark.parametrize("after", [False, True])
async def test_after_a_crash_the_deadline_stands(house: House, probe: Probe, after: bool) -> None:
    """Crashed before and after the commit that records it: a sleep that was begun is not begun anew."""
    tx = await house.start(Nap, '{"seconds": 1800}')  # the lease of a claim outlasts it
    tap = Tap(house.store)
    setattr(tap, "crash_after" if after else "crash_before", 2)
    stay = await house.claim(Nap, tx, tap)
    await tap.crashed.wait()
    await stay.kill()
    await house.pass_time(tx, 600)
    house.linger_s = HOUR_S
    again = await house.claim(Nap, tx)
    await soon(lambda: again.actor.pause is not None)
    assert sum(len(commit.timers) for commit in again.tap.commits) == (0 if after else 1)
    until_s = again.actor.pause.until_s
    assert until_s is not None
    left_s = until_s - now_s()
    assert left_s <= 1200 if after else 1200 < left_s <= 1800
    with clock(lambda: until_s):
        again.actor.stir()
        await again.leaving()
    assert (await house.end(tx))[0] == "finished"


async def test_a_long_sleep_is_spent_unloaded(house: House, probe: Probe) -> None:
    house.options["long_pause_s"] = 0.05
    tx, stay = await house.run(Nap, '{"seconds": 3600}')
    await stay.idle()
    assert probe.seen == ["run"]
    await house.pass_time(tx, 3600)
    await (await house.claim(Nap, tx)).leaving()  # `due` wakes it
    assert probe.seen == ["run", "run", "awake"]
    assert await house.end(tx) == ("finished", "slept, and began 2 times")


async def test_a_hand_over_in_a_sleep_waits_for_the_same_deadline(house: House, probe: Probe) -> None:
    house.linger_s = HOUR_S  # it isn't unloaded before it is handed over
    tx, stay = await house.run(Nap, '{"seconds": 3600}')
    await soon(lambda: stay.actor.pause is not None)
    stay.actor.unload()
    assert await stay.leaving() is Leaving.HANDED_OVER
    await stay.release()
    again = await house.claim(Nap, tx)
    await soon(lambda: again.actor.pause is not None)
    until_s = again.actor.pause.until_s
    assert until_s is not None
    assert HOUR_S - 10 < until_s - now_s() <= HOUR_S


class Badly(Probed, stays_open=False):
    what: str

    async def run(self) -> None:
        transaction = self.transaction
        match self.what:
            case "negative":
                await transaction.sleep("x", -1)
            case "huge":
                await transaction.sleep("x", 1e12)
            case "no number":
                await transaction.sleep("x", "1")  # type: ignore[arg-type]
            case "no name":
                await transaction.sleep("", 1)
            case "twice":
                await transaction.sleep("x", 0)
                await transaction.sleep("x", 0)
            case "in a step":
                await transaction.step("s", self.inside)
            case "another verb":
                await transaction.step("x", self.nothing)
                await transaction.sleep("x", 1)

    async def inside(self) -> None:
        await self.transaction.sleep("x", 1)

    async def nothing(self) -> None: ...


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("negative", "sleep 'x': seconds must be a number from 0 to 315360000, not -1"),
        ("huge", "not 1000000000000.0"),
        ("no number", "not '1'"),
        ("no name", "a name is a text of 1 to 200"),
        ("twice", "'x' is used twice"),
        ("in a step", "sleep: not in a step (step 's')"),
        ("another verb", "'x' is used twice"),
    ],
)
async def test_a_sleep_that_can_not_be(
    house: House, probe: Probe, what: str, said: str
) -> None:
    tx, stay = await house.run(type("Bad", (Badly,), {}, retries=0), f'{{"what": "{what}"}}')
    await stay.leaving()
    transaction = await house.store.get(tx)
    assert transaction is not None
    assert transaction.status == "failed"
    assert said in (transaction.trace or "")


class SleepsInHandler(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        try:
            if data == "sleep":
                await self.transaction.sleep("x", 1)
            else:
                await self.transaction.wait_message("x")
        except UsageError as error:
            Probed.probe.errors.append(error)
            raise


async def test_in_a_handler_the_error_names_what_to_use_instead(house: House, probe: Probe) -> None:
    tx = await house.start(SleepsInHandler)
    await house.send(tx, "sleep")
    await house.send(tx, "wait")
    await (await house.claim(SleepsInHandler, tx)).idle()
    first, second = map(str, probe.errors)
    assert "set_timer" in first
    assert "write on_update" in second


class Plain(Probed, stays_open=False):
    def run(self) -> None:
        self.transaction.sync.sleep("short", 0.01)
        self.transaction.sync.sleep("long", HOUR_S)


async def test_a_long_sleep_in_a_plain_run_is_an_error(house: House, probe: Probe) -> None:
    tx, stay = await house.run(type("Bad", (Plain,), {}, retries=0))
    await stay.leaving()
    assert "make run an async def" in ((await house.store.get(tx)).trace or "")  # type: ignore[union-attr]


class Body(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> int:
        await self.transaction.each("items", range(3), self.item)
        return self.n

    async def item(self, item: int) -> None:
        await self.transaction.sleep("nap", 0.02)
        self.n += 1
        await self.transaction.send_update(item)


async def test_in_the_body_of_an_each_a_name_is_each_items_own_and_goes_with_it(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Body)
    await stay.leaving()
    assert await house.updates(tx) == [0, 1, 2]
    assert await house.end(tx) == ("finished", 3)
    assert stay.actor.history.timers == {}
    assert stay.actor.history.names == {}


# ---- wait_message


class Dialogue(Probed, stays_open=False):
    timeout_s: float | None = None

    async def run(self) -> list[Any]:
        Probed.probe.seen.append("run")
        await self.transaction.send_update("name?", once="asked")
        name = await self.transaction.wait_message("name", self.timeout_s)
        if name is None:
            return ["nobody"]
        await self.transaction.send_update(f"age, {name.data}?", once="age asked")
        age = await self.transaction.wait_message("age")
        assert age is not None
        return [name.data, name.connection.session, name.connection.subject, age.data]


async def test_ask_wait_go_on(house: House, probe: Probe) -> None:
    house.linger_s = HOUR_S  # however late the messages come
    tx, stay = await house.run(Dialogue)
    ann = await house.attach(tx, "ann", "Ann")
    await house.send(tx, "Ann", ann, "Ann")
    await house.send(tx, 7, ann, "Ann")
    await stay.leaving()
    assert await house.end(tx) == ("finished", ["Ann", "ann", "Ann", 7])
    assert await house.updates(tx) == ["name?", "age, Ann?"]


async def test_each_message_is_taken_once_wherever_it_is_crashed(house: House, probe: Probe) -> None:
    """At every commit, before and after it."""
    for at in range(1, 5):
        for after in (False, True):
            tx = await house.start(Dialogue)
            await house.send(tx, "Ann")
            await house.send(tx, 7)
            tap = Tap(house.store)
            setattr(tap, "crash_after" if after else "crash_before", at)
            stay = await house.claim(Dialogue, tx, tap)
            await tap.crashed.wait()
            await stay.kill()
            await (await house.claim(Dialogue, tx)).leaving()
            assert await house.end(tx) == ("finished", ["Ann", None, None, 7]), (at, after)
            assert await house.updates(tx) == ["name?", "age, Ann?"]


class Later(Probed, stays_open=False):
    async def run(self) -> Any:
        await self.transaction.step("first", Probed.probe.stop_here)
        message = await self.transaction.wait_message("then")
        return message and message.data


async def test_a_message_kept_for_later_that_redis_lost_hands_over(house: House, probe: Probe) -> None:
    """What came in its place would hide behind it, and be handled after what came later still."""
    tx, stay = await house.run(Later)
    await probe.there.wait()
    await house.send(tx, "lost")
    await soon(lambda: bool(stay.actor.mail))
    key = house.store.keys.transaction(tx)
    await house.store.link.write("DEL", key + ":inbox")
    await house.store.link.write("HSET", key, "received", "0")
    await house.send(tx, "new")
    assert await stay.leaving() is Leaving.HANDED_OVER
    await stay.release()
    probe.go.set()
    await (await house.claim(Later, tx)).leaving()
    assert await house.end(tx) == ("finished", "new")


async def test_who_waits_for_a_message_is_unloaded_and_woken_by_one(house: House, probe: Probe) -> None:
    house.options["long_pause_s"] = 0.05
    tx, stay = await house.run(Dialogue)
    await stay.idle()
    await house.send(tx, "Ann")
    second = await house.claim(Dialogue, tx)
    await second.idle()
    await house.send(tx, 7)
    await (await house.claim(Dialogue, tx)).leaving()
    assert probe.seen == ["run"] * 3
    assert (await house.end(tx))[1][0] == "Ann"


async def test_nobody_answers_in_time(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Dialogue, '{"timeout_s": 0.1}')
    await stay.leaving()
    assert await house.end(tx) == ("finished", ["nobody"])


async def test_the_time_runs_while_it_is_unloaded_and_what_came_in_time_counts(house: House, probe: Probe) -> None:
    """Unloaded; a message comes; nobody is there until long after the deadline: the message is taken all the same."""
    house.options["long_pause_s"] = 0.01
    for messages, outcome in ((("Ann", 7), "Ann"), ((), "nobody")):
        tx = await house.start(Dialogue, '{"timeout_s": 3600}')
        await (await house.claim(Dialogue, tx)).idle()
        for message in messages:
            await house.send(tx, message)
        await house.pass_time(tx, 3700)
        await (await house.claim(Dialogue, tx)).leaving()
        assert (await house.end(tx))[1][0] == outcome


class Deaf(Probed, stays_open=False):
    async def run(self) -> None:
        await Probed.probe.stop_here()


async def test_messages_that_nobody_takes_are_refused_at_the_end(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Deaf)
    await probe.there.wait()
    ann = await house.attach(tx, "ann")
    await house.send(tx, "hello?", ann)
    probe.go.set()
    await stay.leaving()
    assert await house.refusals(tx) == [("ann", 1, "ended")]


class Both(Probed, stays_open=False, retries=0):
    async def run(self) -> None:
        await self.transaction.wait_message("x")

    async def on_update(self, connection: Connection, data: Any) -> None: ...


async def test_a_state_with_on_update_has_no_wait_message(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Both)
    await stay.leaving()
    assert "this State has on_update" in ((await house.store.get(tx)).trace or "")  # type: ignore[union-attr]


class Impatient(Probed, stays_open=False):
    """Its patience ends while the message that is there is being read."""

    async def run(self) -> list[Any]:
        try:
            async with asyncio.timeout(None) as Probed.probe.limit:
                await self.transaction.wait_message("first")
        except TimeoutError:
            Probed.probe.seen.append("gave up")
        message = await self.transaction.wait_message("second")
        assert message is not None
        return [message.data]


async def test_who_gives_up_while_the_message_is_read_has_taken_nothing(house: House, probe: Probe) -> None:
    tx = await house.start(Impatient)
    tap = Tap(house.store)
    read_message = house.store.read_message

    async def slowly(*args: Any) -> Any:
        if not probe.seen:
            probe.expire()
            await asyncio.sleep(3600)  # until it is cancelled
        return await read_message(*args)

    tap.read_message = slowly  # type: ignore[attr-defined]
    await house.send(tx, "hello")
    stay = await house.claim(Impatient, tx, tap)
    await stay.leaving()
    assert probe.seen == ["gave up"]
    assert await house.end(tx) == ("finished", ["hello"])
