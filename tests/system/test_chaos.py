"""Clients hop between edges while workers are killed: nothing is missed, repeated or handled twice."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable

import pytest

from tests.support.processes import Process, Stage
from tests.support.waiting import soon
from tests.system.conftest import STATES
from tests.system.crowd import Crowd, judge, set_within, settle

pytestmark = pytest.mark.system

STATES_USED = ("Ledger", "Looping", "Threaded")
TRANSACTIONS = int(os.environ.get("ORBIT_CHAOS_TRANSACTIONS", "50"))
SECONDS = float(os.environ.get("ORBIT_CHAOS_S", "30"))
KILL_EVERY_S = 2.0

class Reaper:
    """Kills one of two workers every now and then, and starts another in its place.

    Not before each transaction has committed since the last time: one whose workers are lost again and again without
    that is given up, by rights, as the cause of it.
    """

    def __init__(self, stage: Stage, redis: str, rng: random.Random) -> None:
        self.stage, self.redis, self.rng = stage, redis, rng
        self.workers: list[Process] = []
        self.kills = 0

    async def add(self) -> None:
        self.workers.append(await self.stage.worker(STATES / "ledger.py", self.redis, "--lease-s", "2"))

    async def reap(self, crowd: Crowd, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + KILL_EVERY_S
        while not await set_within(stop, due - loop.time()):
            due = loop.time() + KILL_EVERY_S
            seen = crowd.heads()
            await soon(lambda seen=seen: all(head > seen[tx] for tx, head in crowd.heads().items()))  # type: ignore[misc]
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
        await settle(crowd)
    finally:
        await asyncio.gather(*(client.stop() for client in crowd.clients), return_exceptions=True)
        await asyncio.gather(*running, return_exceptions=True)
    found = await judge(crowd, edges[0])
    handled = sum(len(asked) for asked in crowd.asked.values())
    measured(
        f"{handled} messages, {crowd.hops} hops, {reaper.kills} workers killed, {crowd.replaced} replaced by themselves"
    )
    assert not found, f"{len(found)} findings, ORBIT_SEED={seed}:\n" + "\n".join(found[:50])
    assert handled


async def _thirty_seconds(crowd: Crowd, reaper: Reaper) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(reaper.reap(crowd, stop))
        for client in crowd.clients:
            group.create_task(crowd.live(client, stop))
        await asyncio.sleep(SECONDS)
        await soon(lambda: reaper.kills >= SECONDS / KILL_EVERY_S / 4)
        stop.set()


