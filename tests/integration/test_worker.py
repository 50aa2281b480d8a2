"""Whole workers in this process, on a real store."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbit import Connection
from orbit.store import types as t
from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.verify.proxy import Proxy
from orbit.worker.actor import Actor
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import spec_of
from orbit.worker.lease import now_s
from orbit.worker.renewer import PATIENCE
from orbit.worker.worker import WorkerError, run_worker
from tests.integration.fleet import LEASE_S, Fleet, status, until
from tests.integration.house import House
from tests.integration.probes import Probe, Probed, forever, steps_of_the_loop
from tests.support.waiting import PATIENCE_S, soon


class Numbers(Probed, stays_open=False):
    n: int = 0
    total: int = 3

    async def run(self) -> int:
        while self.n < self.total:
            self.n += 1
            await self.transaction.send_update(self.n)
        return self.n


class Chat(Probed):
    n: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        await self.transaction.send_update([self.n, data])


class Endless(Probed):
    n: int = 0

    async def run(self) -> None:
        while True:
            self.n += 1
            await self.transaction.send_update(self.n)


async def test_what_is_started_before_and_after_a_worker_is_run(house: House, fleet: Fleet) -> None:
    early = await house.start(Numbers)
    await fleet.worker(Numbers)
    late = await house.start(Numbers)
    for tx in (early, late):
        await until(house.store, tx, status("finished"))
        assert await house.updates(tx) == [1, 2, 3]


async def test_an_idle_transaction_costs_no_memory_and_wakes_on_a_message(house: House, fleet: Fleet) -> None:
    worker = await fleet.worker(Chat)
    tx = await house.start(Chat)
    for n in range(3):
        await until(house.store, tx, status("idle"))
        await soon(lambda: worker.metrics.registry.get_sample_value("orbit_worker_transactions") == 0)
        await house.send(tx, n)
        await until(house.store, tx, lambda found, n=n: found.number > n)  # type: ignore[misc]
    assert await house.updates(tx) == [[1, 0], [2, 1], [3, 2]]


class Everything(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> int:
        self.n += 1
        child = await self.transaction.start("child", Numbers())
        drawn = await self.transaction.step("draw", self.draw)
        await self.transaction.sleep("a moment", 0.001)
        await self.transaction.send_update(drawn, await child.result())
        return self.n

    async def draw(self) -> int:
        return 6

    async def on_update(self, connection: Connection, data: Any) -> None:
        await connection.send(data)
        self.transaction.sync  # noqa: B018 - plain code has it made


async def test_what_is_over_is_free_without_a_collection(house: House, fleet: Fleet) -> None:
    """A worker has thousands of transactions a second come and go: what waits for the collector is what it weighs."""
    await fleet.worker(Everything, Numbers, Chat, Endless)
    gc.collect()
    others = _actors()
    gc.disable()
    try:
        endless, chat = await house.start(Endless), await house.start(Chat)
        over = [await house.start(Everything), await house.start(Numbers)]
        session = await house.attach(over[0], "s")
        await house.send(over[0], "hello", session)
        await house.send(chat, "hello")
        await house.store.cancel(endless, "enough")
        for tx in over:
            await until(house.store, tx, status("finished"))
        await until(house.store, chat, lambda seen: seen.status == "idle" and seen.head.seq > 0)
        await until(house.store, endless, status("cancelled"))
        await soon(lambda: _actors() <= others)
    finally:
        gc.enable()


def _actors() -> set[Actor]:
    return {it for it in gc.get_objects() if isinstance(it, Actor)}


async def test_no_more_than_the_concurrency_run_and_the_rest_follows(house: House, fleet: Fleet) -> None:
    worker = await fleet.worker(Endless, concurrency=3)
    started = [await house.start(Endless) for _ in range(8)]
    done = set()
    while len(done) < 8:
        page = await house.store.list(limit=100)
        run = [found.tx for found in page.transactions if found.status == "running"]
        assert len(run) <= 3
        for tx in run:
            await until(house.store, tx, lambda found: found.number > 0 or found.status != "running")
            await house.store.cancel(tx, "next")
            await until(house.store, tx, status("cancelled"))
            done.add(tx)
    assert done == set(started)
    assert worker.metrics.claimed["false"]._value.get() == 8


async def test_each_transaction_goes_to_one_of_several_workers(house: House, fleet: Fleet) -> None:
    workers = [await fleet.worker(Numbers) for _ in range(3)]
    started = [await house.start(Numbers) for _ in range(60)]
    for tx in started:
        await until(house.store, tx, status("finished"))
    claims = [worker.metrics.claimed["false"]._value.get() for worker in workers]
    assert sum(claims) == 60
    assert all(claims)


async def test_a_drained_worker_hands_over_in_milliseconds(
    house: House, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    first = await fleet.worker(Endless)
    tx = await house.start(Endless)
    before = await until(house.store, tx, lambda found: found.number > 10)
    await fleet.worker(Endless)
    took_s = await fleet.drain(first)
    began = time.perf_counter()
    after = await until(house.store, tx, lambda found: found.owner not in ("", before.owner))
    measured(f"drain {took_s * 1000:.1f} ms, then {(time.perf_counter() - began) * 1000:.1f} ms to the next owner")
    await until(house.store, tx, lambda found: found.number > after.number + 10)
    updates = await house.updates(tx)
    assert updates == list(range(1, len(updates) + 1))
    assert after.crashes == 0
    assert took_s < LEASE_S / 2, "it waits for no lease"


async def test_a_draining_worker_stays_out_of_the_register(
    house: House, fleet: Fleet, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It became free just before: a beat is due at once, and comes when it has left."""
    worker = await fleet.worker(Stuck)
    turns = iter(range(50))
    monkeypatch.setattr(worker._slots, "watch", lambda: next(turns))  # an error, were it to go round and round
    await house.start(Stuck)
    await probe.there.wait()
    config, task = fleet.forget(worker)
    config.stop.set()
    while await house.store.workers():
        await steps_of_the_loop()
    worker._beat_now.set()
    await steps_of_the_loop()
    assert await house.store.workers() == ()
    probe.hold.set()
    await task


class Stuck(Probed):
    def run(self) -> None:
        probe = Probed.probe
        probe.loop.call_soon_threadsafe(probe.there.set)
        probe.hold.wait()


async def test_a_stuck_plain_hook_does_not_hold_a_drain(house: House, fleet: Fleet, probe: Probe) -> None:
    worker = await fleet.worker(Stuck, drain_s=0.2)
    tx = await house.start(Stuck)
    await probe.there.wait()
    assert await fleet.drain(worker) < LEASE_S / 2
    found = await house.store.get(tx)
    assert found is not None
    assert found.status == "pending"
    probe.hold.set()


async def test_a_lost_workers_transaction_is_taken_over_after_its_lease(house: House, fleet: Fleet) -> None:
    tx = await house.start(Numbers)
    partition = house.store.partition_of(tx)
    assert await house.store.claim(partition, "lost", [spec_of(Numbers)], 1, 300, "request")
    worker = await fleet.worker(Numbers)
    await until(house.store, tx, status("finished"))
    assert worker.metrics.claimed["true"]._value.get() == 1


class Blocking(Probed):
    async def run(self) -> None:
        probe = Probed.probe
        await self.transaction.send_update("before")
        threading.Event().wait(3.5)  # longer than its lease
        await self.transaction.send_update("after")
        probe.there.set()
        await self.transaction.step("wait", forever)


async def test_a_blocked_loop_does_not_lose_its_leases_at_once(house: House, fleet: Fleet, probe: Probe) -> None:
    worker = await fleet.worker(Blocking, lease_s=3.0)
    tx = await house.start(Blocking)
    await probe.there.wait()
    assert await house.updates(tx) == ["before", "after"]
    assert worker.metrics.lost._value.get() == 0
    assert worker.metrics.blocked._value.get() >= 1


class Slow(Probed, stays_open=False):
    async def run(self) -> str:
        result: str = await self.transaction.step("slow", self.slow)
        return result

    async def slow(self) -> str:
        Probed.probe.seen.append("slow")
        Probed.probe.begun.set()
        await asyncio.wait_for(Probed.probe.go.wait(), PATIENCE_S)
        return "done"


async def test_leases_are_renewed_while_a_step_runs(house: House, fleet: Fleet, probe: Probe) -> None:
    await fleet.worker(Slow, lease_s=3.0)
    tx = await house.start(Slow)
    leases: set[float] = set()
    key = house.store.keys.transaction(tx)
    while len(leases) < 5:  # for longer than one lease
        leases.add(await house.store.link.read("HGET", key, "lease"))
        await until(house.store, tx, lambda found: True)
    probe.go.set()
    found = await until(house.store, tx, status("finished"))
    assert probe.seen == ["slow"]
    assert found.crashes == 0


async def test_health_tells_ready_and_draining_and_counts(house: House, fleet: Fleet, probe: Probe) -> None:
    worker = await fleet.worker(Stuck, Numbers, health_port=0, drain_s=5.0)
    url = ""
    config, _ = fleet._running[worker]
    tx = await house.start(Numbers)
    await until(house.store, tx, status("finished"))
    await house.start(Stuck)
    await probe.there.wait()
    url = worker.health_url
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/livez")).status_code == 200
        assert (await client.get(f"{url}/readyz")).status_code == 200
        metrics = (await client.get(f"{url}/metrics")).text
        assert 'orbit_worker_commits_total{answer="done"} ' in metrics
        assert 'orbit_worker_commits_total{answer="fenced"} 0.0' in metrics
        assert (await client.get(f"{url}/nowhere")).status_code == 404
        config.stop.set()
        await asyncio.sleep(0)
        while (await client.get(f"{url}/readyz")).status_code == 200:
            pass
        assert (await client.get(f"{url}/readyz")).text == "draining\n"
    probe.hold.set()


async def test_a_worker_goes_on_after_redis_was_away(probe: Probe) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    async with EmbeddedServer(config=config) as server:
        settings = t.StoreSettings(namespace="away", partitions=4, timeout_s=1.0)
        store = await Store.open(server.url, settings)
        fleet = Fleet(server.url, store)
        try:
            await fleet.worker(Endless)
            house = House(store)
            tx = await house.start(Endless)
            await until(store, tx, lambda found: found.number > 5)
            await server.restart()
            before = await again(lambda: house.store.get(tx))
            assert before is not None
            await until(store, tx, lambda found: found.number > before.number + 5)
            updates = await house.updates(tx)
            assert updates == list(range(1, len(updates) + 1))
        finally:
            await fleet.close()
            await store.close()


async def again(ask: Callable[[], Awaitable[t.Transaction | None]]) -> t.Transaction | None:
    from orbit.worker.settling import persist

    return await persist(ask)


def test_the_configuration_has_the_documented_defaults() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(WorkerConfig)}
    assert (defaults["lease_s"], defaults["drain_s"], defaults["concurrency"]) == (10.0, 30.0, 100)


class ShortLived(Probed, stays_open=False, retain_s=0.1):
    async def run(self) -> None:
        await self.transaction.send_update("x")


async def test_what_is_past_its_retention_is_removed(house: House, fleet: Fleet) -> None:
    await fleet.worker(ShortLived)
    house.retain_s = 0.1
    tx = await house.start(ShortLived)
    while await house.store.get(tx) is not None:
        await steps_of_the_loop()
    assert await house.store.link.read("EXISTS", house.store.keys.transaction(tx) + ":log") == 0


async def test_a_loop_that_is_silent_for_long_loses_its_leases(house: House, fleet: Fleet, probe: Probe) -> None:
    worker = await fleet.worker(Slow, lease_s=2.0)
    tx = await house.start(Slow)
    await probe.begun.wait()
    worker._renewer._pulse.stop()  # as a loop that hangs gives no sign of life, and looks at no deadline
    worker._renewer._pulse._last_s -= PATIENCE * 2.0  # and gave none for so long that it is renewed no more
    worker._renewer._lapses.close()
    before = await house.store.get(tx)
    assert before is not None
    await fleet.worker(Slow, lease_s=2.0)
    after = await until(house.store, tx, lambda found: found.epoch != before.epoch)
    assert after.crashes > before.crashes
    probe.go.set()
    await until(house.store, tx, status("finished"))
    assert probe.seen.count("slow") >= 2


async def test_a_worker_whose_renewals_die_ends_with_an_error(house: House, fleet: Fleet) -> None:
    worker = await fleet.worker(Numbers)
    _, task = fleet.forget(worker)
    worker._renewer._on_death(RuntimeError("no memory"))
    with pytest.raises(WorkerError, match="no memory"):
        await task
    assert await house.store.workers() == ()


async def test_what_has_nothing_to_do_makes_room_for_what_waits(house: House, fleet: Fleet) -> None:
    await fleet.worker(Chat, concurrency=2, linger_s=600.0)
    started = [await house.start(Chat) for _ in range(6)]
    for n in (1, 2):
        for tx in started:
            await house.send(tx, n)
        for tx in started:
            await until(house.store, tx, lambda found, n=n: found.number >= n)  # type: ignore[misc]


async def test_a_worker_that_waits_for_redis_can_be_stopped(tmp_path: Path) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    app = tmp_path / "app_that_waits.py"
    app.write_text("from orbit import State\n\n\nclass A(State, stays_open=True):\n    pass\n")
    config = WorkerConfig(app=str(app), redis=f"unix://{tmp_path}/none.sock", say=said.put_nowait)
    task = asyncio.ensure_future(run_worker(config))
    assert "waiting for Redis" in await said.get()
    config.stop.set()
    await task


class Watched(Probed, stays_open=False):
    """Says when its code was stopped."""

    async def run(self) -> int:
        return await self.transaction.step("work", self.work)  # type: ignore[no-any-return]

    async def work(self) -> int:
        probe = Probed.probe
        probe.counts["begun"] += 1
        probe.begun.set()
        if probe.go.is_set():
            return probe.counts["begun"]
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            probe.seen.append(now_s())
            probe.there.set()


async def test_a_worker_that_can_not_renew_stops_what_runs_before_its_lease_is_another_s(
    house: House, fleet: Fleet, probe: Probe
) -> None:
    """Redis is out of reach for the one worker alone, and says nothing: no answer, no error."""
    async with Proxy.before(fleet.url) as proxy:
        cut_off = await fleet.worker(Watched, lease_s=2.0, redis=proxy.url)
        tx = await house.start(Watched)
        await probe.begun.wait()
        proxy.hold()
        await probe.there.wait()
        lease_ms = float(await house.store.link.read("HGET", house.store.keys.transaction(tx), "lease"))
        expires_s = (lease_ms - await house.store.now_ms(tx)) / 1000 + now_s()
        assert probe.seen[0] < expires_s, "it was still its own when its code was stopped"
        assert cut_off.metrics.lapsed._value.get() == 1
        probe.go.set()
        await fleet.worker(Watched)
        await until(house.store, tx, status("finished"))
        assert await house.end(tx) == ("finished", 2)
        proxy.release()
        await fleet.drain(cut_off)


class Stubborn(Probed):
    async def run(self) -> None:
        while not Probed.probe.hold.is_set():
            try:
                await self.transaction.step("wait", forever)
            except BaseException:
                Probed.probe.seen.append("swallowed")


async def test_a_run_that_swallows_everything_blocks_no_other(house: House, fleet: Fleet, probe: Probe) -> None:
    await fleet.worker(Stubborn, Numbers, drain_s=0.2)
    tx = await house.start(Stubborn)
    await probe.begun.wait()
    await house.store.cancel(tx, "enough")
    await until(house.store, tx, status("cancelled"))
    other = await house.start(Numbers)
    await until(house.store, other, status("finished"))
    assert len(probe.seen) < 100


async def test_what_can_not_even_begin_in_a_process_of_its_own_fails_in_the_end(house: House, fleet: Fleet) -> None:
    """Each process for it dies before it has looked at the transaction: nobody there could ever give it up."""
    dying = (sys.executable, "-c", "raise SystemExit(66)")
    tx = await house.start(Numbers)
    await house.store.link.write("HSET", house.store.keys.transaction(tx), "crashes", "6")
    await fleet.worker(Numbers, lease_s=2.0, alone=dying)
    found = await until(house.store, tx, status("failed"))
    assert found.crashes == 8
    assert await house.end(tx) == ("failed", ("Crashed", "its workers were lost 8 times"))


async def test_a_worker_to_which_redis_delivers_nothing_says_so_and_finds_its_work_all_the_same(
    house: House, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await fleet.worker(Numbers, health_port=0)
    monkeypatch.setattr(worker, "_on_wake", lambda wake: None)
    worker._subscriber._on_wake = None
    monkeypatch.setattr(Subscriber, "delivers", property(lambda _: False))
    tx = await house.start(Numbers)
    await until(house.store, tx, status("finished"))
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{worker.health_url}/readyz")
    assert (answer.status_code, answer.text) == (503, "Redis doesn't deliver\n")
