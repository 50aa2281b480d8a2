"""Workers that are stopped, cut off past their lease, or stuck."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from orbit.config import Timing
from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.logs import check_complete
from orbit.verify.proxy import Proxy
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S, soon
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

APP = STATES / "pulse.py"
LEASE_S = 30.0
"""So long that nobody takes a wait for its end for a hand-over."""


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


def check_writers(follower: Follower, since: int = 1) -> None:
    """Each grant is one process's, nothing of an older grant comes after a newer one's, and there were several grants
    from the entry `since` on.

    Not "nothing of that process": on a busy machine the other may lose its lease, too, and this one go on by right.
    """
    writers: dict[str, int] = {}
    newest = ""
    for entry in follower.entries[since - 1 :]:
        epoch = str(entry.cursor).partition("-")[2]
        assert epoch >= newest, f"{follower.tx}: an update of an older grant after one of a newer: {entry}"
        newest = epoch
        assert writers.setdefault(epoch, entry.body["pid"]) == entry.body["pid"], f"two wrote under {epoch}"
    assert len(writers) > 1


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


async def test_what_a_worker_sent_before_it_was_cut_off_comes_too_late(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    """The interleaving: the worker sends its commits, the network holds them; its leases end, the other claims all and
    goes on; the commits arrive. Redis refuses each by its epoch: the other's updates are all that is seen.

    Counted are Redis's own answers, as they pass: the worker may have let go by its own clock before it reads them.
    """
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    async with Proxy.before(redis) as link, WireClient([edge.url]) as client, asyncio.timeout(SCENE_S):
        fenced = Fenced()
        link.rewrite = fenced
        held = await stage.worker(APP, link.url, "--lease-s", "1")
        followers = await pulses(stage, edge, client, 20, every_s=0.05)
        await stage.worker(APP, redis, "--lease-s", "1")
        link.hold(up=True, down=False)
        for follower in followers:
            await follower.until(lambda f: f.updates[-1]["pid"] != held.pid)
        seen = [len(follower.entries) for follower in followers]
        held.signal(signal.SIGSTOP)  # that it can't try anything anew
        link.release()
        await soon(lambda: fenced.count)
        held.signal(signal.SIGCONT)
        for follower, count in zip(followers, seen, strict=True):
            more = count + 20
            await follower.until(lambda f, more=more: len(f.entries) >= more)  # type: ignore[misc]
            check_writers(follower)
        assert await held.terminate() == 0, held.tail()
        await finish(client, edge.url)
    measured(f"{fenced.count} times Redis refused what a worker had sent before it was cut off")


class Fenced:
    """Counts how often Redis says that another runs the transaction; passes on all that it says."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, data: bytes) -> bytes:
        self.count += data.count(b"$6\r\nfenced\r\n")
        return data


async def test_sigterm_hands_over_in_milliseconds(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    first = await stage.worker(APP, redis, "--lease-s", str(LEASE_S))
    async with WireClient([edge.url]) as client, asyncio.timeout(SCENE_S):
        followers = await pulses(stage, edge, client, 10, every_s=0.01)
        second = await stage.worker(APP, redis, "--lease-s", str(LEASE_S))
        begun = asyncio.get_running_loop().time()
        assert await first.terminate() == 0, first.tail()
        took = asyncio.get_running_loop().time() - begun
        await all_run_by(followers, second.pid)
        assert all(pids(follower) == [first.pid, second.pid] for follower in followers)
        await finish(client, edge.url)
    pauses = sorted(pause_ms(follower) for follower in followers)
    measured(f"hand-over: {pauses[0]:.0f} to {pauses[-1]:.0f} ms for 10 transactions; the worker left in {took:.2f} s")
    assert pauses[-1] < LEASE_S / 2 * 1000, "a hand-over isn't to wait for a lease"


async def test_a_stuck_plain_hook_does_not_hold_the_drain(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    worker = await stage.worker(APP, redis, "--drain-s", "2", "--lease-s", str(LEASE_S))
    async with WireClient([edge.url]) as client, asyncio.timeout(SCENE_S):
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
    assert took < Timing().drain_s / 2, "its own --drain-s counts"
    assert max(map(pause_ms, others)) < LEASE_S / 2 * 1000, "a stuck hook held the others' hand-over"
