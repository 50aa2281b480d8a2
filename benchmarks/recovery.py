"""How long a client sees nothing when a worker or an edge is lost, or told to leave.

Each client must see every update once, in order: else there is no figure.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.figures import header, line
from orbit import Client
from orbit.protocol.messages import Update
from tests.support.processes import Process, Stage, free_port

STATES = Path(__file__).parent / "states.py"
TRANSACTIONS, CLIENTS, EVERY_S = 20, 50, 0.05
UNDISTURBED_S = 0.15
"""A client that heard nothing for longer was cut off."""


class Watch:
    """One client of one ticking transaction.

    Attributes:
        longest_s: The longest it heard nothing.
        moved_s: How long it heard nothing when another process went on with the transaction; 0 where none did.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.last_s = time.perf_counter()
        self.longest_s = self.moved_s = 0.0
        self.wrong = ""

    async def follow(self, client: Client, tx: str) -> None:
        expected = last = 0
        async with await client.attach(tx) as attachment:
            async for event in attachment:
                if isinstance(event, Update):
                    now = time.perf_counter()
                    number, _, _, process = event.data
                    self.longest_s = max(self.longest_s, now - self.last_s)
                    if last and process != last:
                        self.moved_s = now - self.last_s
                    self.last_s, last = now, process
                    self.heard += 1
                    if expected and number != expected:
                        self.wrong = f"{tx}: update {number} came where {expected} was to"
                    expected = number + 1

    def moved(self) -> float:
        return self.moved_s

    def cut_off(self) -> float:
        return self.longest_s if self.longest_s > UNDISTURBED_S else 0.0

    def begin(self) -> None:
        self.longest_s = self.moved_s = 0.0


async def going(watches: Sequence[Watch], more: int) -> None:
    """Until every client has heard so many more updates."""
    until = [watch.heard + more for watch in watches]
    while any(watch.heard < wanted for watch, wanted in zip(watches, until, strict=True)):
        await asyncio.sleep(0.01)


def seconds(samples: Sequence[float]) -> str:
    return f"median {statistics.median(samples):6.3f} s   max {max(samples):6.3f} s   ({len(samples)} samples)"


async def rounds(
    watches: Sequence[Watch], times: int, befall: Callable[[int], Awaitable[None]], silence: Callable[[Watch], float]
) -> list[float]:
    """In each round the silence of each client that was concerned: not 0."""
    silences: list[float] = []
    for n in range(times):
        await going(watches, 20)
        await asyncio.sleep(random.uniform(0.5, 2.0))  # anywhere between two renewals
        for watch in watches:
            watch.begin()
        await befall(n)
        await going(watches, 20)
        silences += filter(None, map(silence, watches))
        wrong = [watch.wrong for watch in watches if watch.wrong]
        if wrong:
            raise SystemExit("\n".join(wrong[:10]))
    return silences


async def of_workers(stage: Stage, lease_s: float, kills: int, terms: int) -> None:
    """All transactions are of one worker, another stands by; the first is lost, and a third takes its place."""
    server = await stage.embedded()
    edge = await stage.edge(server.url)

    async def worker() -> Process:
        return await stage.worker(STATES, server.url, "--lease-s", str(lease_s))

    busy = await worker()
    client = Client([edge.url])
    watches = [Watch() for _ in range(TRANSACTIONS)]
    ids = [await client.start("Ticker", {"every_s": EVERY_S, "size": 10}) for _ in watches]
    follows = [asyncio.create_task(watch.follow(client, tx)) for watch, tx in zip(watches, ids, strict=True)]
    next_one = await worker()

    async def lose(how: Callable[[Process], Awaitable[object]]) -> None:
        nonlocal busy, next_one
        await how(busy)
        busy, next_one = next_one, await worker()

    try:
        killed = await rounds(watches, kills, lambda n: lose(lambda process: process.kill()), Watch.moved)
        line(f"worker killed, lease {lease_s:g} s: to the next update", seconds(killed))
        if terms:
            told = await rounds(watches, terms, lambda n: lose(lambda process: process.terminate()), Watch.moved)
            line("worker told to leave (SIGTERM): to the next update", seconds(told))
    finally:
        for follow in follows:
            follow.cancel()
        await asyncio.gather(*follows, return_exceptions=True)
        await client.close()
        for process in (busy, next_one, edge):
            await process.kill()


async def of_edges(stage: Stage, times: int) -> None:
    """Fifty clients, each with a connection of its own, on two edges; one of them is killed, and started again."""
    server = await stage.embedded()
    await stage.worker(STATES, server.url)
    ports = [str(free_port()) for _ in range(2)]

    async def edge(n: int) -> Process:
        return await (await stage.orbit("edge", "--redis", server.url, "--port", ports[n])).ready()

    edges = [await edge(0), await edge(1)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    clients = [Client(urls) for _ in range(CLIENTS)]
    tx = await clients[0].start("Ticker", {"every_s": EVERY_S, "size": 10})
    watches = [Watch() for _ in clients]
    follows = [asyncio.create_task(watch.follow(client, tx)) for watch, client in zip(watches, clients, strict=True)]

    async def lose(n: int) -> None:
        await edges[n % 2].kill()
        edges[n % 2] = await edge(n % 2)

    try:
        silences = await rounds(watches, times, lose, Watch.cut_off)
        line(f"edge killed, {CLIENTS} clients on two: those cut off go on after", seconds(silences))
    finally:
        for follow in follows:
            follow.cancel()
        await asyncio.gather(*follows, return_exceptions=True)
        for client in clients:
            await client.close()


async def measure(quick: bool) -> None:
    header()
    kills = 2 if quick else 10
    for lease_s, terms in ((2.0, kills), (10.0, 0)):
        with tempfile.TemporaryDirectory() as folder:
            async with Stage(Path(folder)) as stage:
                await of_workers(stage, lease_s, kills, terms)
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            await of_edges(stage, kills)
