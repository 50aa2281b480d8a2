"""A client that comes and goes without rest harms nobody: not those beside it, not Redis, not the State."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import pytest

from orbit.store.embedded import EmbeddedServer
from orbit.verify.client import WireClient
from orbit.verify.follower import Follower
from orbit.verify.link import Link
from tests.support.processes import Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES
from tests.system.test_edges import judge

pytestmark = pytest.mark.system

ROUNDS = 300
SESSION = "a-session-that-flaps-all-the-time"


async def beat(follower: Follower, count: int) -> list[float]:
    """How late each of the next `count` updates comes."""
    late: list[float] = []
    have = len(follower.updates)
    while len(late) < count:
        await follower.until(lambda f, have=have: len(f.updates) > have)  # type: ignore[misc]
        late += [time.time() - data["at"] for data in follower.updates[have:]]
        have = len(follower.updates)
    return late


async def flap(link: Link, tx: str) -> None:
    """Attach and detach, each as soon as the one before is answered."""
    await link.send({"type": "attach", "tx": tx, "session": SESSION, "after": "$"})
    await link.expect("attached")
    await link.send({"type": "detach", "tx": tx})
    await link.expect("detached")


async def kept(server: EmbeddedServer, tx: str) -> dict[str, int]:
    """What Redis keeps about the sessions of `tx`, and what waits for it."""
    commands = {"sess": "HLEN", "changes": "ZCARD", "conn": "ZCARD", "seen": "ZCARD", "inbox": "XLEN"}
    counts = {}
    for part, command in commands.items():
        [*keys] = await server.command("KEYS", f"*{tx}:{part}")
        counts[part] = sum([int(await server.command(command, key)) for key in keys])
    return counts


async def test_a_client_that_flaps_harms_nobody(stage: Stage, measured: Callable[[str], None]) -> None:
    server = await stage.embedded()
    edge = await stage.edge(server.url, "--grace-s", "0.2")
    await stage.worker(STATES / "pulse.py", server.url, "--grace-s", "0.2")
    async with WireClient([edge.url], name="steady", codec="msgpack") as steady, asyncio.timeout(SCENE_S):
        follower = steady.follow(await stage.start(edge.url, "Counting", every_s=0.02))
        await beat(follower, 20)
        alone = await beat(follower, 100)
        link = await Link.open(edge.url)
        await flap(link, follower.tx)
        before = int((await server.info("memory"))["used_memory"])
        begun = time.perf_counter()
        beside_task = asyncio.create_task(beat(follower, 100))
        for _ in range(ROUNDS):
            await flap(link, follower.tx)
        per_s = ROUNDS / (time.perf_counter() - begun)
        beside = await beside_task
        grown = int((await server.info("memory"))["used_memory"]) - before
        most = await kept(server, follower.tx)
        await link.close()
        follower.send("finish")
        await follower.until(lambda f: f.end is not None)
        assert follower.end is not None
        came, gone = follower.end["result"]
        await judge(edge.url, follower)
    assert most["sess"] <= 12, "two sessions' rows, of some fields each"
    assert most["conn"] <= 2
    assert most["changes"] <= 1
    assert most["seen"] <= 1
    assert most["inbox"] == 0, "connects and disconnects are no entries"
    assert gone <= came <= ROUNDS + 2
    cuts = [statistics.quantiles(samples, n=20)[18] * 1000 for samples in (alone, beside)]
    measured(
        f"{per_s:.0f} times a second: p95 of the others {cuts[0]:.1f} ms alone, {cuts[1]:.1f} ms beside it;"
        f" Redis grew {grown / 1024:.0f} KiB (with the others' updates); the State was told {came} times of a coming,"
        f" {gone} of a going"
    )
