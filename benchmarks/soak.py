"""A soak: `python -m benchmarks.soak [--minutes N] [--seed N]`.

Two workers and two edges under a mixed load, with something killed, stopped or cut off every half minute. One worker
and one edge are left alone: their memory and descriptors, and those of Redis, are to stay flat. Every transaction that
is over must have shown all of its updates.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from benchmarks.figures import header, line, mib
from benchmarks.running import run
from orbit import Client, OrbitError
from orbit.protocol.messages import End, Update
from tests.support.processes import Process, Stage, free_port

STATES = Path(__file__).parent / "states.py"
LEASE_S = "4"
ROOMS, MIXED_AT_ONCE, SAMPLE_S, FAULT_S = 10, 8, 5.0, 30.0
GROWTH, SLACK_MIB, SLACK_FDS = 1.05, 1.0, 4
"""Flat: the last quarter's median is at most so many times the second quarter's, and some more."""


class Soak:
    """Everything that runs."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self.stage = stage
        self.rng = rng
        self.redis = ""
        self.workers: list[Process] = []
        self.edges: list[Process] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.samples: dict[str, list[tuple[float, float]]] = {}
        self._options = [("--port", str(free_port())) for _ in range(2)]
        self._server: Any = None

    async def start(self) -> None:
        self._server = await self.stage.embedded()
        self.redis = self._server.url
        self.workers = [await self._worker() for _ in range(2)]
        self.edges = [await self._edge(n) for n in range(2)]

    async def _worker(self) -> Process:
        return await self.stage.worker(STATES, self.redis, "--lease-s", LEASE_S)

    async def _edge(self, n: int) -> Process:
        process = await self.stage.orbit("edge", "--redis", self.redis, *self._options[n])
        return await process.ready()

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for _, port in self._options]

    # ---- the load

    async def mixed(self, client: Client) -> None:
        """One transaction after another, each to its end."""
        tx = await client.start("Mixed", idempotency_key=secrets.token_hex(8))
        seen = []
        async for event in client.events(tx):
            if isinstance(event, Update):
                seen.append(event.data)
            if isinstance(event, End):
                if (event.status, event.result) != ("finished", 8) or seen != [[n, (n - 1) ** 2] for n in (1, 2, 3)]:
                    self.wrong.append(f"{tx}: {event.status}, {seen}")
                break
        self.counts["transactions"] += 1

    async def talk(self, client: Client, tx: str) -> None:
        """A session in a room: it comes, says a few things, hears itself, and goes."""
        async with await client.attach(tx, after="$") as attachment:
            name = secrets.token_hex(3)
            mine = [f"{name} {n}" for n in range(10)]
            for text in mine:
                await attachment.send(text)
            heard: list[str] = []
            async for event in attachment:
                if isinstance(event, Update) and isinstance(event.data, list) and event.data[1] in mine:
                    heard.append(str(event.data[1]))
                    if len(heard) == len(mine):
                        break
            if heard != mine:
                self.wrong.append(f"{tx}: said {mine}, heard {heard}")
        self.counts["messages"] += len(mine)

    async def again_and_again(self, make: Callable[[Client], Awaitable[None]], pause_s: float) -> None:
        while True:
            async with Client(self.urls, patience_s=60) as client:
                for _ in range(20):
                    try:
                        await make(client)
                    except OrbitError as error:
                        self.counts[f"{type(error).__name__} at a client"] += 1
                    await asyncio.sleep(pause_s * self.rng.uniform(0.5, 1.5))

    async def rooms(self) -> list[str]:
        async with Client(self.urls) as client:
            return [await client.start("Room") for _ in range(ROOMS)]

    # ---- the faults: the second of each is what they befall

    async def faults(self) -> None:
        kinds: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.kill_worker, self.drain_worker, self.pause_worker, self.kill_edge, self.drain_edge, self.cut_pubsub,
        ]  # fmt: skip
        while True:
            self.rng.shuffle(kinds)
            for kind in kinds:
                await asyncio.sleep(FAULT_S)
                await kind()
                self.counts[kind.__name__.replace("_", " ")] += 1

    async def kill_worker(self) -> None:
        await self.workers[1].kill()
        self.workers[1] = await self._worker()

    async def drain_worker(self) -> None:
        await self.workers[1].terminate()
        self.workers[1] = await self._worker()

    async def pause_worker(self) -> None:
        self.workers[1].signal(signal.SIGSTOP)
        await asyncio.sleep(3 * float(LEASE_S))
        self.workers[1].signal(signal.SIGCONT)

    async def kill_edge(self) -> None:
        await self.edges[1].kill()
        self.edges[1] = await self._edge(1)

    async def drain_edge(self) -> None:
        await self.edges[1].terminate()
        self.edges[1] = await self._edge(1)

    async def cut_pubsub(self) -> None:
        redis = Redis.from_url(self.redis)
        with suppress(OrbitError):
            await redis.client_kill_filter(_type="pubsub")
        await redis.aclose()

    # ---- what is looked at

    async def look(self, began: float) -> None:
        """Note everything's memory and descriptors, again and again."""
        redis = Redis.from_url(self.redis)
        try:
            while True:
                at = time.monotonic() - began
                info = await redis.info()
                self._note("Redis: memory", at, info["used_memory"])
                self._note("Redis: keys", at, await redis.dbsize())
                self._note("Redis: clients", at, info["connected_clients"])
                for name, process in (
                    ("worker left alone", self.workers[0]), ("worker under faults", self.workers[1]),
                    ("edge left alone", self.edges[0]), ("edge under faults", self.edges[1]),
                ):  # fmt: skip
                    with suppress(OSError, AssertionError):
                        self._note(f"{name}: memory", at, process.rss_bytes())
                        self._note(f"{name}: descriptors", at, descriptors(process))
                await asyncio.sleep(SAMPLE_S)
        finally:
            await redis.aclose()

    def _note(self, what: str, at: float, value: float) -> None:
        self.samples.setdefault(what, []).append((at, value))


def descriptors(process: Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def quarters(samples: list[tuple[float, float]], whole_s: float) -> list[float]:
    """The median of each quarter of the time."""
    parts: list[list[float]] = [[], [], [], []]
    for at, value in samples:
        parts[min(3, int(4 * at / whole_s))].append(value)
    return [statistics.median(part) if part else float("nan") for part in parts]


def is_flat(what: str, by_quarter: list[float]) -> bool:
    """Whether the last quarter's is no more than the second's, but for a little."""
    slack = SLACK_MIB * 2**20 if what.endswith("memory") else SLACK_FDS if "keys" not in what else 100
    return not by_quarter[3] > GROWTH * by_quarter[1] + slack


def report(soak: Soak, whole_s: float) -> bool:
    print(f"  {'medians of the four quarters':<32}")
    good = not soak.wrong
    for what, samples in sorted(soak.samples.items()):
        by_quarter = quarters(samples, whole_s)
        shown = "  ".join(f"{mib(v) if what.endswith('memory') else format(v, '.0f'):>10}" for v in by_quarter)
        judged = "under faults" not in what  # those are started anew again and again
        flat = is_flat(what, by_quarter)
        good = good and (flat or not judged)
        print(f"  {what:<32} {shown}   {('flat' if flat else 'NOT FLAT') if judged else ''}")
    for what, count in sorted(soak.counts.items()):
        line(what, str(count))
    for text in soak.wrong[:20]:
        print(f"  WRONG {text}")
    print("  verdict:", "flat, and nothing missing" if good else "NOT FLAT, or something is missing")
    return good


async def measure(minutes: float, seed: int) -> bool:
    header()
    print(f"  seed {seed}, {minutes:g} minutes, lease {LEASE_S} s, a fault every {FAULT_S:.0f} s")
    whole_s = minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            soak = Soak(stage, random.Random(seed))
            await soak.start()
            rooms = await soak.rooms()
            began = time.monotonic()
            tasks = [asyncio.create_task(soak.look(began)), asyncio.create_task(soak.faults())]
            tasks += [asyncio.create_task(soak.again_and_again(soak.mixed, 0.5)) for _ in range(MIXED_AT_ONCE)]
            for tx in rooms:
                tasks.append(
                    asyncio.create_task(soak.again_and_again(lambda client, tx=tx: soak.talk(client, tx), 1.0))  # type: ignore[misc]
                )
            done, _ = await asyncio.wait(tasks, timeout=whole_s, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()  # none ends by itself
            return report(soak, whole_s)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    sys.exit(0 if run(measure(arguments.minutes, arguments.seed)) else 1)


if __name__ == "__main__":
    main()
