"""Orders while their workers are killed at random: each act outside under one key, each update once, in order.

`ORBIT_ORDERS_S` says for how long there are new orders and kills; a minute shows more than the few seconds here.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from orbit import Broker, Client
from orbit.protocol.messages import End, Update
from tests.support.processes import Process, Stage
from tests.support.waiting import soon
from tests.system.conftest import STATES
from tests.system.crowd import set_within
from tests.system.states.orders import LINES

pytestmark = pytest.mark.system

SECONDS = float(os.environ.get("ORBIT_ORDERS_S", "8"))
WORKERS, AT_ONCE = 3, 40
LEASE_S = "2"
ACTS = (*(f"reserve{line}" for line in range(LINES)), "pay", "bring")
SETTLE_S = 120.0


class Shop:
    """Orders that come in, some workers, and somebody who kills one of them again and again."""

    def __init__(self, stage: Stage, redis: str, edge: str, ledger: Path, rng: random.Random) -> None:
        self.stage, self.redis, self.edge, self.ledger, self.rng = stage, redis, edge, ledger, rng
        self.seen: dict[str, list[Any]] = {}
        self.results: dict[str, Any] = {}
        self.kills = 0
        self._workers: list[Process] = []

    async def add_worker(self) -> None:
        command = ("worker", str(STATES / "orders.py"), "--redis", self.redis, "--lease-s", LEASE_S)
        process = await self.stage.orbit(*command, env={"ORDERS_LEDGER": str(self.ledger)})
        self._workers.append(await process.ready())

    async def trade(self, seconds: float) -> None:
        """Take orders for so long while workers are killed, then let all that is open come to its end."""
        stop = asyncio.Event()
        await asyncio.gather(*(self.add_worker() for _ in range(WORKERS)))
        async with Broker(self.redis) as broker, Client([self.edge]) as client, asyncio.TaskGroup() as group:
            killing = group.create_task(self._kill(stop))
            customers = [group.create_task(self._buy(broker, client, stop)) for _ in range(AT_ONCE)]
            await asyncio.sleep(seconds)
            stop.set()
            await killing
            async with asyncio.timeout(SETTLE_S):
                await asyncio.wait(customers)

    async def _kill(self, stop: asyncio.Event) -> None:
        """Kill some workers at once, or all, and have others started in their place meanwhile.

        Not before each order has moved on since the last time: one whose workers are lost again and again without that
        is given up, by rights, as the cause of it.
        """
        async with asyncio.TaskGroup() as starting:
            while not await set_within(stop, self.rng.uniform(0.2, 2.0)):
                marks = {tx: len(seen) for tx, seen in self.seen.items() if tx not in self.results}
                for _ in range(self.rng.randint(1, len(self._workers))):
                    await self._workers.pop(self.rng.randrange(len(self._workers))).kill()
                    self.kills += 1
                    starting.create_task(self.add_worker())
                await soon(lambda marks=marks: self._workers and all(self._moved(tx, n) for tx, n in marks.items()))  # type: ignore[misc]

    def _moved(self, tx: str, since: int) -> bool:
        return tx in self.results or len(self.seen[tx]) > since

    async def _buy(self, broker: Broker, client: Client, stop: asyncio.Event) -> None:
        while not stop.is_set():
            tx = await broker.start("Order")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ship(broker, tx))
                group.create_task(self._follow(client, tx))

    async def _ship(self, broker: Broker, tx: str) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, 1.5))
        await broker.send(tx, f"parcel of {tx}")

    async def _follow(self, client: Client, tx: str) -> None:
        seen = self.seen[tx] = []
        async with aclosing(client.events(tx)) as events:
            async for event in events:
                match event:
                    case Update():
                        seen.append(event.data)
                    case End():
                        self.results[tx] = (event.status, event.result)
                        return


def read_ledger(path: Path) -> dict[str, dict[str, Counter[str]]]:
    """Of each order, of each act, how often it was done under which key."""
    acts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for line in path.read_text().splitlines():
        key, what, order = line.split()
        acts[order][what][key] += 1
    return acts


async def test_each_order_is_paid_once_and_each_update_comes_once_in_order(
    stage: Stage, seed: int, measured: Callable[[str], None]
) -> None:
    redis = (await stage.embedded()).url
    edge = (await stage.edge(redis)).url
    shop = Shop(stage, redis, edge, stage.folder / "ledger", random.Random(seed))
    await shop.trade(SECONDS)
    acts = read_ledger(shop.ledger)
    faults = [fault for tx in shop.seen for fault in faults_of(tx, shop, acts[tx])]
    assert set(acts) == set(shop.seen)
    again = sum(sum(keys.values()) - 1 for order in acts.values() for keys in order.values())
    measured(
        f"{len(shop.seen)} orders, {sum(map(len, shop.seen.values()))} updates, {shop.kills} workers killed in"
        f" {SECONDS:.0f} s; {again} acts were done again, under the same key"
    )
    assert not faults, f"{len(faults)} faults, ORBIT_SEED={seed}:\n" + "\n".join(faults[:30])
    assert shop.kills
    assert shop.seen


def faults_of(tx: str, shop: Shop, acts: dict[str, Counter[str]]) -> list[str]:
    """What is wrong with one order."""
    found = [f"{tx}: {what} under {len(keys)} keys" for what, keys in acts.items() if len(keys) != 1]
    if set(acts) != set(ACTS):
        found.append(f"{tx}: done were {sorted(acts)}")
    if found:
        return found
    receipts = {what: next(iter(keys)) for what, keys in acts.items()}
    wanted = [
        *({"reserved": line} for line in range(LINES)), {"paid": receipts["pay"]},
        {"shipped": f"parcel of {tx}"}, {"brought": receipts["bring"]},
    ]  # fmt: skip
    if shop.seen[tx] != wanted:
        found.append(f"{tx}: its updates were {shop.seen[tx]}")
    if shop.results.get(tx) != ("finished", [receipts[what] for what in ACTS]):
        found.append(f"{tx}: it ended as {shop.results.get(tx)}")
    return found
