"""A worker stopped for three leases and woken: nothing that it does afterwards is visible.

`make pauses` does it a hundred times. Every round has a seed of its own, which is printed; ORBIT_TEST_SEED begins with
that one, ORBIT_TEST_PAUSES says how many follow.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from orbit.verify.client import WireClient
from orbit.verify.follower import Follower
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES
from tests.system.test_workers import check_writers, finish

ROUNDS = int(os.environ.get("ORBIT_TEST_PAUSES", "2"))
SEED = int(os.environ.get("ORBIT_TEST_SEED", random.randrange(2**31)))
LEASE_S = 1.0
TRANSACTIONS = 8
_TOO_LATE = re.compile(
    r'^orbit_worker_(?:commits_total\{answer="fenced"\}|released_total\{how="(?:gone|lapsed)"\}) (.*)$', re.MULTILINE
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(300 + 20 * ROUNDS)]


async def test_a_worker_that_was_stopped_for_three_leases(stage: Stage, measured: Callable[[str], None]) -> None:
    """Two workers by turns: one runs all, is stopped in the middle of whatever it does, and is woken when the other
    has gone on with everything. Its commits under way, its turns and its renewals then all come too late."""
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    options = ("--lease-s", str(LEASE_S), "--health-port", "0")
    paused, other = [await stage.worker(STATES / "pulse.py", redis, *options) for _ in range(2)]
    refused = 0.0
    async with WireClient([edge.url]) as client:
        started = [await stage.start(edge.url, "Pulse", every_s=0.01) for _ in range(TRANSACTIONS)]
        followers = [client.follow(tx) for tx in started]
        for follower in followers:
            await follower.until(lambda f: len(f.entries) > 20)
        for seed in range(SEED, SEED + ROUNDS):
            print(f"seed {seed}", flush=True)
            async with asyncio.timeout(SCENE_S):
                refused += await one_round(stage, followers, paused, random.Random(seed))
            paused, other = other, paused
        assert refused, "no pause was one"
        await finish(client, edge.url)
    measured(f"{ROUNDS} pauses from seed {SEED} on: {refused:.0f} times it came too late, and nothing was seen of it")


async def one_round(
    stage: Stage, followers: Sequence[Follower], paused: Process, rng: random.Random
) -> float:
    """How often the woken worker was told that it came too late, or saw so itself."""
    before = await too_late(stage, paused)
    chosen = rng.choice(followers)
    seen = len(chosen.entries) + rng.randrange(1, 60)
    await chosen.until(lambda f: len(f.entries) >= seen)  # some moment, in the middle of a turn, a commit, a renewal
    paused.signal(signal.SIGSTOP)
    held = [follower for follower in followers if follower.entries[-1].body["pid"] == paused.pid]
    stopped = [len(follower.entries) for follower in held]
    await asyncio.sleep(3 * LEASE_S)  # the pause itself
    for follower in followers:
        await follower.until(lambda f: f.entries[-1].body["pid"] != paused.pid)
    paused.signal(signal.SIGCONT)
    late = 0.0
    with suppress(TimeoutError):  # it may have let go before the pause, of what the other had said nothing of yet
        async with asyncio.timeout(10 * LEASE_S):
            while held and not late:
                await asyncio.sleep(0.02)
                late = await too_late(stage, paused) - before
    for follower, count in zip(held, stopped, strict=True):
        more = len(follower.entries) + 20
        await follower.until(lambda f, more=more: len(f.entries) >= more)  # type: ignore[misc]
        check_writers(follower, count)
    return late


async def too_late(stage: Stage, worker: Process) -> float:
    """Commits that were refused, and transactions that it found in other hands, or let go itself."""
    text = (await stage.http.get(f"{worker.url}/metrics")).text
    return sum(float(number) for number in _TOO_LATE.findall(text))
