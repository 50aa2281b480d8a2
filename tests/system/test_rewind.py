"""Redis comes back as it was some time ago: who saw what is lost is told so, and all else goes on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.logs import check_complete, check_logs
from orbit.verify.trace import LogEntry
from tests.support.processes import Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system


async def say_until(followers: list[Follower], first: int, count: int) -> None:
    """Each says `count` messages, numbered from `first`; returns when all are stored."""
    for follower in followers:
        for n in range(first, first + count):
            follower.send({"client": follower.client.trace.name, "n": n, "do": "count"})
    for follower in followers:
        await follower.until_stored()


async def test_redis_goes_back_in_time(stage: Stage, seed: int, measured: Callable[[str], None]) -> None:
    rng = random.Random(seed)
    server = await stage.embedded(config={"save": '""', "appendonly": "no"})
    edges = [(await stage.edge(server.url)).url for _ in range(2)]
    await asyncio.gather(*(stage.worker(STATES / "ledger.py", server.url, "--lease-s", "2") for _ in range(2)))
    old = [await stage.start(edges[0], state, pace_s=0.05) for state in ("Ledger", "Looping", "Threaded")]
    clients = [WireClient(edges, name=f"client {n}", rng=random.Random(rng.random())) for n in range(4)]
    running = [asyncio.create_task(client.run()) for client in clients]
    followers = [client.follow(tx) for client in clients for tx in old]
    async with asyncio.timeout(SCENE_S):
        await say_until(followers, 1, 3)
        async with Redis.from_url(server.url) as redis:
            await redis.execute_command("SAVE")
        await say_until(followers, 4, 5)
        forgotten = await stage.start(edges[0], "Ledger", pace_s=0.05)
        left_behind = clients[0].follow(forgotten)
        await left_behind.until(lambda f: len(f.entries) > 3)
        server.kill()
        await server.start()
        for follower in followers:
            await follower.until(lambda f: f.resets)
        await left_behind.until(lambda f: f.gave_up) if left_behind.gave_up is None else None
        await say_until(followers, 100, 3)
        for follower in {follower.tx: follower for follower in followers}.values():
            follower.send({"client": follower.client.trace.name, "n": 200, "do": "finish"})
        for follower in followers:
            await follower.until(lambda f: f.end is not None)
    for client in clients:
        await client.stop()
    await asyncio.gather(*running, return_exceptions=True)
    logs = await read_logs(edges[0], [(f.tx, str(f.session)) for f in followers])
    found = _judge(clients, followers, logs)
    assert not found, f"ORBIT_SEED={seed}\n" + "\n".join(found[:40])
    assert left_behind.gave_up in ("not_found", "gone")
    lost = sum(len(follower.lost) for follower in followers)
    measured(f"{len(followers)} clients were told of the rewind, {lost} messages were reported as lost")


def _judge(
    clients: list[WireClient], followers: list[Follower], logs: dict[tuple[str, str], list[LogEntry]]
) -> list[str]:
    found: list[str] = []
    for client in clients:
        own = {tx: logs[tx, str(f.session)] for tx, f in client.followers.items() if (tx, str(f.session)) in logs}
        found += map(str, check_trace(client.trace, own, resets={"rewound"}))
    for follower in followers:
        name = follower.client.trace.name
        log = logs[follower.tx, str(follower.session)]
        found += map(str, check_complete(name, follower.entries, log))
        handled = [e.body["n"] for e in log if e.kind == "update" and e.body.get("client") == name]
        lost = {data["n"] for data in follower.lost}
        twice = [n for n, count in Counter(handled).items() if count > 1]
        missing = {data["n"] for data in follower.stored.values()} - set(handled)
        if twice or missing or lost & set(handled):
            found.append(f"{name} in {follower.tx}: twice {twice}, missing {missing}, lost and handled {lost}")
        if {reset["reason"] for reset in follower.resets} != {"rewound"}:
            found.append(f"{name} in {follower.tx}: {follower.resets}")
    for tx in {follower.tx for follower in followers}:
        found += map(str, check_logs({session: log for (of, session), log in logs.items() if of == tx}))
    return found
