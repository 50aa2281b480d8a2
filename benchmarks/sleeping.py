"""100,000 transactions asleep: what they cost while nothing happens, and how fast all of them are woken at once."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import header, line, mib
from benchmarks.path import idle
from benchmarks.server import used_bytes
from benchmarks.states import Alarm, Sleeper
from orbit import Broker
from tests.support.processes import Process, Stage

STATES = Path(__file__).parent / "states.py"
STARTERS = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """What a worker, and Redis, cost while nothing happens."""

    rss_bytes: int
    cpu: float
    commands_per_s: float

    def __str__(self) -> str:
        return f"{mib(self.rss_bytes):>10}   CPU {self.cpu:6.2%}   {self.commands_per_s:5.1f} commands/s at Redis"


@dataclass(frozen=True, slots=True)
class Night:
    """What was seen of `count` transactions that slept and woke within ten seconds.

    Attributes:
        before / asleep / after: Of the worker, with none, with all asleep, when all are over.
        late_s: How late each of some timers rang, while all others slept.
        woken_s: How long after its time each went on.
    """

    before: Cost
    asleep: Cost
    after: Cost
    late_s: tuple[float, ...]
    woken_s: tuple[float, ...]
    took_s: float
    redis_bytes_each: float


async def measure(quick: bool) -> None:
    header()
    count, night_s, idle_s = (1_000, 15.0, 3.0) if quick else (100_000, 300.0, 30.0)
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            night = await spend(stage, Path(folder), count, night_s, idle_s)
    line("an idle worker before", str(night.before))
    line(f"with {count} asleep", str(night.asleep))
    line("after all of them", str(night.after))
    line("Redis, each of them", f"{night.redis_bytes_each:.0f} bytes")
    late_ms = [late * 1000 for late in night.late_s]
    line("timers due meanwhile ring so late", f"p50 {statistics.median(late_ms):.0f} ms   max {max(late_ms):.0f} ms")
    line(f"{count} due within 10 s: all woken, once each, in", f"{night.took_s:.1f} s: {count / night.took_s:.0f}/s")
    line("each after its time", f"p50 {statistics.median(night.woken_s):.1f} s   max {max(night.woken_s):.1f} s")


async def spend(stage: Stage, folder: Path, count: int, night_s: float, idle_s: float) -> Night:
    """Have `count` transactions sleep until some ten seconds that begin in `night_s`.

    Raises:
        SystemExit: One of them wasn't run, or was run twice.
    """
    server = await stage.embedded()
    worker = await stage.worker(STATES, server.url, "--concurrency", "500")
    before = await cost(worker, server.url, idle_s)
    async with Broker(server.url) as broker:
        memory = await used_bytes(server.url)
        ledger = folder / "woken"
        wake_s = time.time() + night_s
        await start_all(broker, (Sleeper(wake_s=wake_s + 10 * n / count, path=str(ledger)) for n in range(count)))
        await until_none(broker, "running", "pending")
        if time.time() > wake_s - idle_s:
            raise SystemExit(f"the night was too short: {count} were not asleep in {night_s:.0f} s")
        each = (await used_bytes(server.url) - memory) / count
        asleep = await cost(worker, server.url, idle_s)
        late = await ring(broker, 100)
        if time.time() > wake_s:
            raise SystemExit("the night was too short for the timers")
        while not ledger.exists() or ledger.read_bytes().count(b"\n") < count:
            await asyncio.sleep(0.2)
        took_s = time.time() - wake_s
        await until_none(broker, "idle", "running", "pending")
        lines = [text.split() for text in ledger.read_text().splitlines()]
        woken = {tx for tx, _ in lines}
        if len(lines) != count or len(woken) != count:
            raise SystemExit(f"{len(lines)} were woken, {len(woken)} different ones, instead of {count}")
    after = await cost(worker, server.url, idle_s)
    return Night(before, asleep, after, late, tuple(float(late_s) for _, late_s in lines), took_s, each)


async def start_all(broker: Broker, states: Iterable[Sleeper]) -> None:
    left = iter(states)

    async def start_some() -> None:
        for state in left:
            await broker.start(state)

    await asyncio.gather(*(start_some() for _ in range(STARTERS)))


async def until_none(broker: Broker, *statuses: str) -> None:
    """Until there is no transaction of these statuses. Redis is asked seldom: to find none it walks through all."""
    for status in statuses:
        while await some(broker, status):
            await asyncio.sleep(1)


async def some(broker: Broker, status: str) -> bool:
    """Whether there is any; a page may be empty, though there is a next one."""
    found = await broker.list(status=status, limit=1)
    while not found.transactions and found.next is not None:
        found = await broker.list(status=status, limit=1, page=found.next)
    return bool(found.transactions)


async def cost(worker: Process, url: str, seconds: float) -> Cost:
    (cpu,), commands = await idle(seconds, url, worker)
    return Cost(worker.rss_bytes(), cpu, commands)


async def ring(broker: Broker, count: int) -> tuple[float, ...]:
    """How late each of `count` timers rang that are due at different times within some seconds."""
    ids = await asyncio.gather(*(broker.start(Alarm(after_s=2 + 3 * n / count)) for n in range(count)))

    async def late_s(tx: str) -> float:
        async for update in broker.updates(tx):
            return float(update.data)
        raise SystemExit(f"{tx} ended without its timer")

    return tuple(await asyncio.gather(*map(late_s, itertools.islice(ids, count))))
