"""A message that kills its process takes no more than a few others with it, and is refused in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from orbit.verify.link import Link
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
HEALTHY, WORKERS, LEASE_S = 200, 2, "4"
"""The lease outlasts a worker that stands still on a busy machine, which would count like a death."""


class Fleet:
    """Workers that are started again when they die, as a service manager does it."""

    def __init__(self, stage: Stage, redis: str) -> None:
        self.stage, self.redis = stage, redis
        self.deaths = 0
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, count: int) -> None:
        started = [asyncio.Event() for _ in range(count)]
        self._keepers = [asyncio.create_task(self._keep(event)) for event in started]
        await asyncio.gather(*(event.wait() for event in started))

    async def _keep(self, started: asyncio.Event) -> None:
        while True:
            options = ("--lease-s", LEASE_S, "--concurrency", "400")
            worker: Process = await self.stage.worker(STATES / "poison.py", self.redis, *options)
            started.set()
            await worker.wait()
            self.deaths += 1

    async def stop(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)


async def test_it_alone_is_refused(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    fleet = Fleet(stage, redis)
    await fleet.start(WORKERS)
    healthy = [await stage.start(edge.url, "Healthy") for _ in range(HEALTHY)]
    link = await Link.open(edge.url)
    for tx in healthy:
        await link.send({"type": "attach", "tx": tx})
    beats: dict[str, list[float]] = {tx: [] for tx in healthy}
    follow = asyncio.create_task(_follow(link, beats))

    speaker = await Link.open(edge.url)
    tx = await stage.start(edge.url, "Poisoned")
    await speaker.send({"type": "attach", "tx": tx})
    await speaker.expect("attached")
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for mid, data in enumerate(("before", "die", "after"), 1):
        await speaker.send({"type": "send", "tx": tx, "mid": mid, "data": data})
    async with asyncio.timeout(SCENE_S):
        heard = [await speaker.expect("update") for _ in range(1)]
        refused = await speaker.expect("rejected")
        heard.append(await speaker.expect("update"))
    took_s = loop.time() - began_s
    assert [one["data"]["heard"] for one in heard] == ["before", "after"]
    assert (refused["mid"], refused["code"]) == (2, "state_error")
    assert "cursor" in refused
    assert fleet.deaths == 2, "two workers were lost; the rest of the deaths were in processes of its own"

    marks = {tx: len(times) for tx, times in beats.items()}
    while any(len(times) < marks[tx] + 4 for tx, times in beats.items()):
        await link_beats(follow)
    follow.cancel()
    longest_s = max(later - earlier for times in beats.values() for earlier, later in pairwise(times))
    undisturbed = sum(max(later - earlier for earlier, later in pairwise(times)) < 1.5 for times in beats.values())
    await fleet.stop()
    await link.close()
    await speaker.close()
    shown = await stage.show(edge.url, tx)
    assert shown["status"] in ("idle", "running")
    measured(
        f"refused after {took_s:.1f} s and {fleet.deaths} workers lost (lease {LEASE_S} s); of {HEALTHY} others the"
        f" longest pause was {longest_s:.2f} s, {undisturbed} had none over 1.5 s"
    )


async def link_beats(follow: asyncio.Task[Any]) -> None:
    """Give the follower a moment; its error is the test's."""
    await asyncio.wait((follow,), timeout=0.1)
    if follow.done():
        follow.result()


async def _follow(link: Link, beats: dict[str, list[float]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        message = await link.expect("update")
        beats[message["tx"]].append(loop.time())


async def test_a_run_that_kills_its_processes_fails_in_the_end_and_is_retried_by_hand(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    fleet = Fleet(stage, redis)
    await fleet.start(1)
    tx = await stage.start(edge.url, "Doomed")
    answer = await stage.http.get(f"{edge.url}/v1/transactions/{tx}/result", params={"wait_s": 100}, timeout=110)
    assert answer.json()["error"] == {"type": "Crashed", "message": "its workers were lost 5 times"}
    assert fleet.deaths == 2
    assert (await stage.http.post(f"{edge.url}/v1/transactions/{tx}/retry")).status_code == 202
    await fleet.stop()
