"""A change of the code rolls through a fleet: for a while its old and its new version run side by side.

`ORBIT_ROLLING_TRANSACTIONS` says how many are in flight meanwhile; a thousand show more than the few here.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from orbit import Broker
from tests.support.processes import Process, Stage
from tests.system.conftest import STATES

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]

COUNT = int(os.environ.get("ORBIT_ROLLING_TRANSACTIONS", "100"))
PACE_S = max(0.3, COUNT / 250)
"""What a few hundred updates a second make of it, which any machine can do."""
STATES_USED = ("Looping", "Listed")
LEASE = ("--lease-s", "3")
OLD = ("--concurrency", str(COUNT * 3 // 5))
"""Neither old worker can have all: the first new one gets some as soon as an old one leaves."""
NEW = ("--concurrency", str(COUNT))
PATIENCE_S = 400.0


class Watch:
    """The updates of each transaction, as they come."""

    def __init__(self, broker: Broker, ids: list[str]) -> None:
        self.seen: dict[str, list[Any]] = {tx: [] for tx in ids}
        self.following = [asyncio.create_task(self._follow(broker, tx)) for tx in ids]
        self._moved = asyncio.Event()

    async def _follow(self, broker: Broker, tx: str) -> None:
        async for update in broker.updates(tx):
            self.seen[tx].append(update.data)
            self._moved.set()

    def by(self, version: int) -> int:
        """How many updates the code of that version has sent."""
        return sum(data[0] == version for updates in self.seen.values() for data in updates)

    async def until(self, found: Callable[[], bool]) -> None:
        while not found():
            self._moved.clear()
            await self._moved.wait()


async def test_all_finish_and_none_is_run_by_code_that_does_not_know_its_snapshot(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    """Two old workers. A new one comes, an old one is drained, a new one comes, the other old one is lost."""
    redis = (await stage.embedded()).url

    async def worker(version: str, *options: str) -> Process:
        return await stage.worker(STATES / f"rolled_{version}.py", redis, *LEASE, *options)

    old = await asyncio.gather(worker("old", *OLD), worker("old", *OLD))
    async with Broker(redis) as broker, asyncio.timeout(PATIENCE_S):
        ids = [await broker.start(STATES_USED[n % 2], {"pace_s": PACE_S}) for n in range(COUNT)]
        watch = Watch(broker, ids)
        await watch.until(lambda: all(watch.seen.values()))
        await worker("new", *NEW)
        assert await old[0].terminate() == 0
        await watch.until(lambda: watch.by(2) >= COUNT // 4)
        before = watch.by(1)
        await watch.until(lambda: watch.by(1) > before)  # the other one goes on with what it has
        await worker("new", *NEW)
        await old[1].kill()
        await watch.until(lambda: all(updates[-1][0] == 2 for updates in watch.seen.values()))
        await asyncio.gather(*(broker.send(tx, "enough") for tx in ids))
        await asyncio.gather(*watch.following)
        infos = [await broker.get(tx) for tx in ids]
    faults = [fault for info in infos for fault in faults_of(info, watch.seen[info.id])]
    versions = Counter(version for updates in watch.seen.values() for version, _ in updates)
    measured(
        f"{COUNT} in flight, all finished; {sum(versions.values())} updates checked, {versions[1]} of the old version"
        f" and then {versions[2]} of the new one"
    )
    assert not faults, "\n".join(faults[:30])


def faults_of(info: Any, updates: list[Any]) -> list[str]:
    """What is wrong with one transaction: its end, its updates, or that the old code came after the new one."""
    found = []
    if (info.status, info.result) != ("finished", len(updates)):
        found.append(f"{info.id}: {info.status} {info.result} {info.error}")
    if [turn for _, turn in updates] != list(range(1, len(updates) + 1)):
        found.append(f"{info.id}: its updates were {updates}")
    if any(later < earlier for (earlier, _), (later, _) in pairwise(updates)):
        found.append(f"{info.id}: the old code went on with what the new one had written: {updates}")
    return found
