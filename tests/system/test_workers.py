"""Workers that are stopped, paused past their lease, or stuck."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.logs import check_complete
from tests.support.processes import Process, Stage
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

APP = STATES / "pulse.py"


def pids(follower: Follower) -> list[int]:
    """The processes that ran the turns, in the order of their updates, each stretch once."""
    seen: list[int] = []
    for data in follower.updates:
        if not seen or seen[-1] != data["pid"]:
            seen.append(data["pid"])
    return seen


def pause_ms(follower: Follower) -> float:
    """The longest time between the last update of one process and the first of the next, by the workers' clocks."""
    both = pairwise(follower.updates)
    return max(((b["at"] - a["at"]) * 1000 for a, b in both if a["pid"] != b["pid"]), default=0.0)


async def finish(client: WireClient, edge: str, message: Any = "finish") -> None:
    """End every transaction that `client` follows and judge what it saw."""
    for follower in client.followers.values():
        follower.send(message)
    for follower in client.followers.values():
        await follower.until(lambda f: f.end is not None)
    logs = await read_logs(edge, [(tx, str(f.session)) for tx, f in client.followers.items()])
    found = [*map(str, check_trace(client.trace, {tx: log for (tx, _), log in logs.items()}))]
    for (tx, session), log in logs.items():
        found += map(str, check_complete(session, client.followers[tx].entries, log))
        assert [e.body["n"] for e in log if e.kind == "update"] == list(range(1, len(log)))
    assert not found, "\n".join(found[:30])


async def pulses(stage: Stage, edge: Process, client: WireClient, count: int, **fields: Any) -> list[Follower]:
    """`count` transactions that `client` follows, each with some updates behind it."""
    followers = [client.follow(await stage.start(edge.url, "Pulse", **fields)) for _ in range(count)]
    for follower in followers:
        await follower.until(lambda f: len(f.entries) > 20)
    return followers


async def all_run_by(followers: Sequence[Follower], pid: int) -> None:
    for follower in followers:
        await follower.until(lambda f: f.updates and f.updates[-1]["pid"] == pid)


async def test_a_worker_paused_past_its_lease_is_refused_when_it_wakes(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    paused = await stage.worker(APP, redis, "--lease-s", "1", "--health-port", "0")
    async with WireClient([edge.url]) as client, asyncio.timeout(60):
        followers = await pulses(stage, edge, client, 20, every_s=0.05)
        other = await stage.worker(APP, redis, "--lease-s", "1")
        paused.signal(signal.SIGSTOP)
        await all_run_by(followers, other.pid)
        paused.signal(signal.SIGCONT)
        fenced = await _fenced(stage, paused)
        assert await paused.terminate() == 0, paused.tail()
        for follower in followers:
            assert pids(follower) == [paused.pid, other.pid], "the paused worker's turns showed after the other's"
        await finish(client, edge.url)
    measured(f"{fenced:.0f} commits of a worker that woke late were refused")


async def _fenced(stage: Stage, worker: Process) -> float:
    while True:
        count = await stage.metric(worker.url, "orbit_worker_commits_total", answer="fenced")
        if count:
            return count
        await asyncio.sleep(0.05)


async def test_sigterm_hands_over_in_milliseconds(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    first = await stage.worker(APP, redis, "--lease-s", "10")
    async with WireClient([edge.url]) as client, asyncio.timeout(60):
        followers = await pulses(stage, edge, client, 10, every_s=0.01)
        second = await stage.worker(APP, redis, "--lease-s", "10")
        begun = asyncio.get_running_loop().time()
        assert await first.terminate() == 0, first.tail()
        took = asyncio.get_running_loop().time() - begun
        await all_run_by(followers, second.pid)
        assert all(pids(follower) == [first.pid, second.pid] for follower in followers)
        await finish(client, edge.url)
    pauses = sorted(pause_ms(follower) for follower in followers)
    measured(f"hand-over: {pauses[0]:.0f} to {pauses[-1]:.0f} ms for 10 transactions; the worker left in {took:.2f} s")
    assert pauses[-1] < 1000, "a hand-over isn't to wait for a lease"


async def test_a_stuck_plain_hook_does_not_hold_the_drain(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    worker = await stage.worker(APP, redis, "--drain-s", "2", "--lease-s", "10")
    async with WireClient([edge.url]) as client, asyncio.timeout(60):
        stuck = client.follow(await stage.start(edge.url, "Stuck"))
        stuck.send("first")
        await stuck.until(lambda f: f.updates)
        stuck.send("stick")
        await stuck.until_stored()
        others = await pulses(stage, edge, client, 2, every_s=0.01)
        other = await stage.worker(APP, redis)
        begun = asyncio.get_running_loop().time()
        code = await worker.terminate()
        took = asyncio.get_running_loop().time() - begun
        assert code == 0, worker.tail()
        await all_run_by(others, other.pid)
    measured(f"with a stuck plain hook and --drain-s 2 the worker left in {took:.2f} s")
    assert took < 4
    assert all(pause_ms(follower) < 1000 for follower in others), "a stuck hook held the others' hand-over"
