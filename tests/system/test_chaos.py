"""Clients hop between edges while workers are killed: nothing is missed, repeated or handled twice."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.audit import read_logs
from tests.support.checker import check_complete, check_logs, check_messages, check_trace
from tests.support.processes import Process, Stage
from tests.support.trace import LogEntry
from tests.support.wire_client import Follower, WireClient
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

STATES_USED = ("Ledger", "Looping", "Threaded")
TRANSACTIONS = int(os.environ.get("ORBIT_CHAOS_TRANSACTIONS", "50"))
CLIENTS_EACH = 4
SECONDS = float(os.environ.get("ORBIT_CHAOS_S", "30"))
KILL_EVERY_S = 2.0
SETTLE_S = 90.0

DOINGS = ("count",) * 6 + ("private", "private", "raise", "reject")
REFUSED = {"raise": "state_error", "reject": "forbidden"}


class Crowd:
    """The clients. `done` says what each message of each follower asked for."""

    def __init__(self, rng: random.Random, edges: list[str], ids: list[str]) -> None:
        self.rng = rng
        self.clients: list[WireClient] = []
        self.followers: list[Follower] = []
        self.asked: dict[int, dict[int, str]] = {}
        self.hops = 0
        self.replaced = 0
        half = len(ids) // 2
        for number in range(CLIENTS_EACH * half):
            codec = rng.choice(("json", "msgpack"))
            client = WireClient(edges, codec=codec, name=f"client {number}", rng=random.Random(rng.random()))
            self.clients.append(client)
            for tx in (ids[number % half], ids[half + number % half]):
                self.followers.append(client.follow(tx))

    def name(self, follower: Follower) -> str:
        return f"{follower.client.trace.name} in {follower.tx}"

    def say(self, follower: Follower, do: str) -> None:
        asked = self.asked.setdefault(id(follower), {})
        n = len(asked) + 1
        asked[n] = do
        mid = follower.send({"client": self.name(follower), "n": n, "do": do})
        assert mid == n, f"{self.name(follower)}: a message was given up: {follower.lost}, {follower.unsendable}"

    async def live(self, client: WireClient, stop: asyncio.Event) -> None:
        """Send and hop at random until told to stop."""
        rng = client.rng
        while not await _set_within(stop, rng.uniform(0.2, 2.0)):
            if rng.random() < 0.6:
                self.say(rng.choice(list(client.followers.values())), rng.choice(DOINGS))
                continue
            self.hops += 1
            for follower in client.followers.values():
                self.forgive(follower)
            client.hop(rude=rng.random() < 0.5)

    def forgive(self, follower: Follower) -> None:
        """A client that hops so often may be replaced by its own late attaches: the person at it tries again."""
        if follower.gave_up == "replaced":
            self.replaced += 1
            follower.gave_up = None
            follower.replaced = 0


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


class Reaper:
    """Kills one of two workers every now and then, and starts another in its place."""

    def __init__(self, stage: Stage, redis: str, rng: random.Random) -> None:
        self.stage, self.redis, self.rng = stage, redis, rng
        self.workers: list[Process] = []
        self.kills = 0

    async def add(self) -> None:
        self.workers.append(await self.stage.worker(STATES / "ledger.py", self.redis, "--lease-s", "2"))

    async def reap(self, stop: asyncio.Event) -> None:
        while not await _set_within(stop, KILL_EVERY_S):
            victim = self.workers.pop(self.rng.randrange(len(self.workers)))
            await victim.kill()
            self.kills += 1
            await self.add()


async def test_no_gap_no_repeat_and_each_message_once(stage: Stage, seed: int, measured: Callable[[str], None]) -> None:
    rng = random.Random(seed)
    redis = (await stage.embedded()).url
    reaper = Reaper(stage, redis, rng)
    edges = [(await stage.edge(redis)).url for _ in range(2)]
    await asyncio.gather(reaper.add(), reaper.add())
    ids = [await stage.start(rng.choice(edges), STATES_USED[n % 3], pace_s=0.5) for n in range(TRANSACTIONS)]
    crowd = Crowd(rng, edges, ids)
    running = [asyncio.create_task(client.run()) for client in crowd.clients]
    try:
        await _thirty_seconds(crowd, reaper)
        await _settle(crowd)
    finally:
        await asyncio.gather(*(client.stop() for client in crowd.clients), return_exceptions=True)
        await asyncio.gather(*running, return_exceptions=True)
    found = await _judge(crowd, edges[0])
    handled = sum(len(asked) for asked in crowd.asked.values())
    measured(
        f"{handled} messages, {crowd.hops} hops, {reaper.kills} workers killed, {crowd.replaced} replaced by themselves"
    )
    assert not found, f"{len(found)} findings, ORBIT_SEED={seed}:\n" + "\n".join(found[:50])
    assert reaper.kills >= SECONDS / KILL_EVERY_S / 4
    assert handled


async def _thirty_seconds(crowd: Crowd, reaper: Reaper) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(reaper.reap(stop))
        for client in crowd.clients:
            group.create_task(crowd.live(client, stop))
        await asyncio.sleep(SECONDS)
        stop.set()


async def _settle(crowd: Crowd) -> None:
    """Nobody hops or dies any more: all that was said is stored, each transaction is finished, and its end is seen."""
    for follower in crowd.followers:
        if follower.gave_up == "replaced":
            crowd.forgive(follower)
            follower._attach_again()
    try:
        async with asyncio.timeout(SETTLE_S):
            for follower in crowd.followers:
                await follower.until_stored()
            for follower in {follower.tx: follower for follower in crowd.followers}.values():
                crowd.say(follower, "finish")
            for follower in crowd.followers:
                await follower.until(lambda f: f.end is not None)
    except TimeoutError:
        waiting = [
            f"{crowd.name(f)}: attached {f.attached}, asked {f.asked}, at {f.cursor}, queue {f.queue}, {f.gave_up}"
            for f in crowd.followers
            if f.end is None
        ]
        raise AssertionError("never came to rest:\n" + "\n".join(waiting[:20])) from None


async def _judge(crowd: Crowd, edge: str) -> list[str]:
    logs = await read_logs(edge, [(f.tx, str(f.session)) for f in crowd.followers])
    found: list[str] = []
    for client in crowd.clients:
        own = {tx: logs[tx, str(f.session)] for tx, f in client.followers.items()}
        found += check_trace(client.trace, own)
    by_tx: dict[str, dict[str, list[LogEntry]]] = {}
    for follower in crowd.followers:
        log = logs[follower.tx, str(follower.session)]
        by_tx.setdefault(follower.tx, {})[crowd.name(follower)] = log
        found += check_complete(crowd.name(follower), follower.entries, log)
        found += _fates(crowd, follower, log)
    for sessions in by_tx.values():
        found += check_logs(sessions)
        found += _ticks(next(iter(sessions.values())))
    return found


def _fates(crowd: Crowd, follower: Follower, log: list[LogEntry]) -> list[str]:
    name, asked = crowd.name(follower), crowd.asked.get(id(follower), {})
    handled = [body["n"] for body in _updates(log) if "handled" in body and body["client"] == name]
    assert follower.end is not None
    found = check_messages(
        name, follower.stored, handled, follower.refused, lambda mid: REFUSED.get(asked.get(mid, "count"))
    )
    if follower.end["result"].get(name, []) != handled:
        found.append(f"{name}: the fields say {follower.end['result'].get(name)}, the updates {handled}")
    private = [(body["private"], body["client"]) for body in _updates(log) if "private" in body]
    meant = [(mid, name) for mid, do in asked.items() if do == "private"]
    if private != meant:
        found.append(f"{name}: private answers to {private}, asked for {meant}")
    return found


def _updates(log: list[LogEntry]) -> list[Any]:
    return [entry.body for entry in log if entry.kind == "update"]


def _ticks(log: list[LogEntry]) -> list[str]:
    ticks = [body["tick"] for body in _updates(log) if "tick" in body]
    return [] if ticks == list(range(1, len(ticks) + 1)) else [f"ticks out of order or missing: {ticks}"]
