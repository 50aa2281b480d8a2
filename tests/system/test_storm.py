"""Every link to Redis breaks at random, workers are paused and edges killed: still nothing is missed, repeated or lost.

Redis itself loses nothing here, so no client is ever told to reset.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from orbit.verify.proxy import Proxy
from tests.support.processes import Process, Stage, free_port
from tests.system.conftest import STATES
from tests.system.crowd import Crowd, judge, set_within, settle

pytestmark = pytest.mark.system

TRANSACTIONS = int(os.environ.get("ORBIT_STORM_TRANSACTIONS", "16"))
SECONDS = float(os.environ.get("ORBIT_STORM_S", "15"))
PUBLISHED = re.compile(rb"\*3\r\n\$8\r\nsmessage\r\n\$\d+\r\n[^\r]*:live\r\n\$(\d+)\r\n")
"""How a message on a transaction's live channel begins on a subscriber's connection."""
STATES_USED = ("Ledger", "Looping", "Threaded")


class Weather:
    """Does something bad every now and then. `bad` counts what was done."""

    def __init__(self, stage: Stage, redis: str, rng: random.Random) -> None:
        self.stage, self.redis, self.rng = stage, redis, rng
        self.stack = AsyncExitStack()
        self.proxies: list[Proxy] = []
        self.workers: list[Process] = []
        self.edges: dict[int, Process] = {}
        self.edge_links: dict[int, str] = {}
        self.bad: Counter[str] = Counter()

    async def link(self) -> str:
        """A way to Redis of its own for one process."""
        self.proxies.append(await self.stack.enter_async_context(Proxy.before(self.redis)))
        return self.proxies[-1].url

    async def add_worker(self) -> None:
        url = await self.link()
        self.workers.append(await self.stage.worker(STATES / "ledger.py", url, "--lease-s", "2"))

    async def add_edge(self, port: int) -> str:
        self.edge_links.setdefault(port, await self.link())
        edge = await self.stage.orbit("edge", "--redis", self.edge_links[port], "--port", str(port))
        self.edges[port] = await edge.ready()
        return edge.url

    async def blow(self, stop: asyncio.Event) -> None:
        while not await set_within(stop, self.rng.uniform(0.1, 0.6)):
            await self.rng.choices(
                [self.drop, self.cut, self.hold, self.lose, self.pause_worker, self.kill_worker, self.kill_edge],
                [4, 6, 2, 8, 2, 1, 1],
            )[0]()
        for proxy in self.proxies:
            proxy.release()

    async def drop(self) -> None:
        self.bad["dropped"] += 1
        self.rng.choice(self.proxies).drop_all()

    async def cut(self) -> None:
        """The next script of one process is run, its reply is lost."""
        self.bad["cut"] += 1
        self.rng.choice(self.proxies).cut_after(b"EVALSHA")

    async def hold(self) -> None:
        """A network gone silent for a while."""
        self.bad["held"] += 1
        proxy = self.rng.choice(self.proxies)
        proxy.hold()
        asyncio.get_running_loop().call_later(self.rng.uniform(0.2, 3.0), proxy.release)

    async def lose(self) -> None:
        """A published message that never arrives, while all connections live on."""
        proxy = self.rng.choice(self.proxies)

        def without_one(data: bytes) -> bytes:
            published = PUBLISHED.match(data)
            if published is None:
                return data
            whole = published.end() + int(published[1]) + len(b"\r\n")
            if whole > len(data):
                return data
            self.bad["lost"] += 1
            proxy.rewrite = bytes
            return data[whole:]

        proxy.rewrite = without_one

    async def pause_worker(self) -> None:
        self.bad["paused"] += 1
        worker = self.rng.choice(self.workers)
        worker.signal(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(self.rng.uniform(0.5, 3.5), worker.signal, signal.SIGCONT)

    async def kill_worker(self) -> None:
        self.bad["workers killed"] += 1
        await self.workers.pop(self.rng.randrange(len(self.workers))).kill()
        await self._calm(self.add_worker())

    async def kill_edge(self) -> None:
        self.bad["edges killed"] += 1
        port = self.rng.choice(list(self.edges))
        await self.edges[port].kill()
        await self._calm(self.add_edge(port))

    async def _calm(self, starting: object) -> None:
        """A process that starts is spared what would only make its start longer."""
        for proxy in self.proxies:
            proxy.release()
        await starting  # type: ignore[misc]


async def test_nothing_is_lost_in_a_storm(stage: Stage, seed: int, measured: Callable[[str], None]) -> None:
    rng = random.Random(seed)
    weather = Weather(stage, (await stage.embedded()).url, rng)
    async with weather.stack:
        edges = [await weather.add_edge(free_port()) for _ in range(2)]
        await asyncio.gather(weather.add_worker(), weather.add_worker())
        ids = [await stage.start(rng.choice(edges), STATES_USED[n % 3], pace_s=0.1) for n in range(TRANSACTIONS)]
        crowd = Crowd(rng, edges, ids)
        running = [asyncio.create_task(client.run()) for client in crowd.clients]
        try:
            await _blow(crowd, weather)
            await settle(crowd)
        finally:
            await asyncio.gather(*(client.stop() for client in crowd.clients), return_exceptions=True)
            await asyncio.gather(*running, return_exceptions=True)
        found = await judge(crowd, edges[0])
    sent = sum(len(asked) for asked in crowd.asked.values())
    measured(f"{sent} messages, {crowd.hops} hops, {dict(weather.bad)}, {crowd.replaced} replaced by themselves")
    assert not found, f"{len(found)} findings, ORBIT_SEED={seed}:\n" + "\n".join(found[:50])


async def _blow(crowd: Crowd, weather: Weather) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(weather.blow(stop))
        for client in crowd.clients:
            group.create_task(crowd.live(client, stop))
        await asyncio.sleep(SECONDS)
        stop.set()
