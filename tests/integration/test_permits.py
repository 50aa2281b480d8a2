"""`max_running`, `rate_per_s`, `key`: for the whole fleet, whoever is lost, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.worker.actor import PERMIT_AGAIN_S
from orbit.worker.permits import tell
from tests.integration.fleet import Fleet, status, until
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed
from tests.support.waiting import soon


class Encode(Probed, stays_open=False, max_running=2):
    n: int = 0

    async def run(self) -> None:
        Probed.probe.seen.append(self.n)
        counts = Probed.probe.counts
        counts["now"] += 1
        counts["most"] = max(counts["most"], counts["now"])
        try:
            await self.transaction.step("work", asyncio.sleep, 0.02)
        finally:
            counts["now"] -= 1


class PerUser(Probed, stays_open=False, max_running=1, key="user"):
    user: str

    async def run(self) -> None:
        counts = Probed.probe.counts
        counts[self.user] += 1
        counts["most"] = max(counts["most"], counts[self.user])
        counts["all"] = max(counts["all"], sum(counts[user] for user in "abc"))
        try:
            await self.transaction.step("work", asyncio.sleep, 0.02)
        finally:
            counts[self.user] -= 1


class Slowly(Probed, stays_open=False, rate_per_s=20):
    async def run(self) -> None:
        Probed.probe.seen.append(time.monotonic())


class Held(Probed, stays_open=False, max_running=1):
    async def run(self) -> None:
        Probed.probe.seen.append("run")
        Probed.probe.there.set()
        await Probed.probe.go.wait()


async def finished(house: House, txs: list[TxId]) -> None:
    for tx in txs:
        await until(house.store, tx, status("finished"))


@pytest.mark.parametrize("workers", [1, 3])
async def test_never_more_than_may_and_all_in_the_end(
    house: House, probe: Probe, fleet: Fleet, workers: int
) -> None:
    txs = [await house.start(Encode, json.dumps({"n": n})) for n in range(20)]
    for _ in range(workers):
        await fleet.worker(Encode)
    await finished(house, txs)
    assert probe.counts["most"] == 2
    assert sorted(probe.seen) == list(range(20))


async def test_for_each_value_of_the_key(house: House, probe: Probe, fleet: Fleet) -> None:
    txs = [await house.start(PerUser, json.dumps({"user": "abc"[n % 3]})) for n in range(15)]
    await fleet.worker(PerUser)
    await finished(house, txs)
    assert probe.counts["most"] == 1
    assert probe.counts["all"] > 1, "others don't wait for them"


async def test_a_rate(house: House, probe: Probe, fleet: Fleet) -> None:
    txs = [await house.start(Slowly) for _ in range(30)]
    began = time.monotonic()  # not at the first run, which may note its time late
    await fleet.worker(Slowly)
    await finished(house, txs)
    assert len(probe.seen) == 30
    assert max(probe.seen) - began >= 1.2, "two or three may begin at once, then one every 50 ms"


async def test_a_permit_goes_on_with_its_transaction_to_another_worker(
    house: House, probe: Probe, fleet: Fleet
) -> None:
    """Drained in mid-run: the other transaction doesn't slip in between."""
    first = await house.start(Held)
    worker = await fleet.worker(Held)
    await probe.there.wait()
    second = await house.start(Held)
    await until(house.store, second, lambda found: found.waits is not None)
    probe.there.clear()
    await fleet.worker(Held)
    await fleet.drain(worker)
    await probe.there.wait()
    assert probe.seen == ["run", "run"]
    shown = await house.store.get(second)
    assert shown is not None
    assert (shown.status, shown.waits) == ("pending", "Held")
    probe.go.set()
    await finished(house, [first, second])


async def test_a_permit_that_is_lost_with_its_worker_expires(house: House, probe: Probe, fleet: Fleet) -> None:
    limit = t.Limit("Held", most=1)
    assert (await house.store.permit(limit, TxId("lost-with-its-worker"), 700)).held
    tx = await house.start(Held)
    probe.go.set()
    await fleet.worker(Held)
    await until(house.store, tx, status("finished"))


class Chatty(Probed, max_running=1):
    """Waits for its permit, and answers meanwhile."""

    async def run(self) -> None:
        Probed.probe.seen.append("run")

    async def on_update(self, connection: Any, data: Any) -> None:
        await self.transaction.send_update(data)


async def test_one_that_waits_answers_messages(house: House, probe: Probe, fleet: Fleet) -> None:
    assert (await house.store.permit(t.Limit("Chatty", most=1), TxId("held-by-another-one"), 60_000)).held
    tx = await house.start(Chatty)
    await fleet.worker(Chatty)
    await until(house.store, tx, lambda found: found.waits is not None)
    await house.send(tx, "hello?")
    await until(house.store, tx, lambda found: found.head.seq == 1)
    assert probe.seen == []
    await tell(house.store, "Chatty", await house.store.unpermit("Chatty", TxId("held-by-another-one")))
    await soon(lambda: probe.seen)


async def test_a_cancelled_one_waits_no_longer(house: House, probe: Probe, fleet: Fleet) -> None:
    await house.store.permit(t.Limit("Held", most=1), TxId("held-by-another-one"), 60_000)
    tx = await house.start(Held)
    await fleet.worker(Held)
    await until(house.store, tx, lambda found: found.waits is not None)
    await house.store.cancel(tx, "enough")
    await until(house.store, tx, status("cancelled"))
    await tell(house.store, "Held", await house.store.unpermit("Held", TxId("held-by-another-one")))
    other = await house.start(Held)
    probe.go.set()
    await until(house.store, other, status("finished"))


class Nap(Probed, stays_open=False, max_running=1):
    async def run(self) -> None:
        Probed.probe.seen.append("run")
        await self.transaction.sleep("nap", 3600.0)


async def test_who_falls_asleep_gives_its_permit_back_before_another_worker_can_have_it(
    house: House, probe: Probe, fleet: Fleet
) -> None:
    """Released first, it could be taken over, under its permit, by the time that the worker before gives that back."""
    tx = await house.start(Nap)
    worker = await fleet.worker(Nap, linger_s=0.0, concurrency=1)
    store = worker._store
    released, done = store.release, []

    async def release(*args: Any, **more: Any) -> Any:
        done.append(await held(house, "Nap"))
        return await released(*args, **more)

    store.release = release  # type: ignore[method-assign]
    worker._slots.hurry()
    await until(house.store, tx, status("idle"))
    assert done == [[]]


async def held(house: House, limit: str) -> list[str]:
    """Who holds a permit."""
    link = house.store._link
    partition = house.store.keys.partition(house.store.keys.partition_named(limit))
    return [member.decode() for member in await link.read("ZRANGE", f"{partition}:held:{limit}", 0, -1)]


async def test_a_permit_of_what_is_held_elsewhere_by_now_is_not_given_back(
    house: House, probe: Probe, fleet: Fleet
) -> None:
    """Its worker was paused past its lease; another one runs it, under the same permit."""
    tx = await house.start(Held)
    worker = await fleet.worker(Held)
    await probe.there.wait()
    actor = worker._slots._actors[tx]
    actor.note_lost()
    await actor.released.wait()
    assert await held(house, "Held") == [tx]
    probe.go.set()


async def test_a_permit_that_is_given_while_the_answer_is_on_its_way_is_not_missed(house: House, probe: Probe) -> None:
    """It is told of before the answer `wait` is there: nobody tells it again for half a minute."""
    tx = await house.start(Held)
    probe.go.set()
    tap = Tap(house.store)
    permit = house.store.permit

    async def slowly(*args: Any) -> t.Permit:
        if not probe.counts["asked"]:
            probe.counts["asked"] += 1
            stay.actor.stir()
            return t.Permit(False, ())
        return await permit(*args)

    tap.permit = slowly  # type: ignore[attr-defined]
    stay = await house.claim(Held, tx, tap)
    async with asyncio.timeout(PERMIT_AGAIN_S / 2):
        await stay.leaving()
    assert await house.end(tx) == ("finished", None)
