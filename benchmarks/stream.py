"""One transaction with 1,000,000 updates: its rate, what Redis keeps of it, and what a client sees that joins late."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import header, line, mib
from benchmarks.server import used_bytes
from benchmarks.states import Long
from orbit import Broker, Client
from orbit.protocol.messages import End, Reset, Update
from tests.support.processes import Stage

STATES = Path(__file__).parent / "states.py"


@dataclass(frozen=True, slots=True)
class Joined:
    """What a client saw that joined from the start: a reset where some was gone, then the rest without a gap."""

    view: int
    tail: int


@dataclass(frozen=True, slots=True)
class Stream:
    """Memory of Redis in bytes after each tenth, the rate, and what was seen by who joined at half, and at the end."""

    tenths: tuple[int, ...]
    per_s: float
    half: Joined
    over: Joined


async def measure(quick: bool) -> None:
    header()
    total = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            seen = await run(stage, total)
    line(f"{total} updates by each, 100 characters each", f"{seen.per_s:.0f}/s")
    line("Redis after each tenth", " ".join(f"{size / 2**20:.1f}" for size in seen.tenths) + " MiB")
    line("after the first tenth and at the end", f"{mib(seen.tenths[0])} and {mib(seen.tenths[-1])}")
    line("joined at half", f"reset to a view of {seen.half.view}, then {seen.half.tail} updates")
    line("joined at the end", f"reset to a view of {seen.over.view}, then {seen.over.tail} updates")


async def run(stage: Stage, total: int, *options: str) -> Stream:
    """Have a State send `total` updates, and have clients join late, over an edge.

    Raises:
        SystemExit: A client saw a gap, or the end came without its updates.
    """
    server = await stage.embedded()
    await stage.worker(STATES, server.url, *options)
    edge = await stage.edge(server.url)
    tenths: list[int] = []
    half: asyncio.Task[Joined] | None = None
    async with Broker(server.url) as broker, Client([edge.url]) as client:
        empty = await used_bytes(server.url)
        began = time.perf_counter()
        tx = await broker.start(Long(total=total))
        while not (info := await broker.get(tx)).over:
            sent = int(info.cursor.partition("-")[0])
            while len(tenths) < min(9, sent * 10 // total):
                tenths.append(await used_bytes(server.url) - empty)
            if half is None and sent >= total / 2:
                half = asyncio.ensure_future(join(client, tx, total))
            await asyncio.sleep(0.02)
        per_s = total / (time.perf_counter() - began)
        tenths.append(await used_bytes(server.url) - empty)
        if info.status != "finished" or half is None:
            raise SystemExit(f"it has {info.status}: {info.error}")
        return Stream(tuple(tenths), per_s, await half, await join(client, tx, total))


async def join(client: Client, tx: str, total: int) -> Joined:
    """Follow from the start to the end. Raises SystemExit where there is a gap."""
    view, last, tail = 0, 0, 0
    async with aclosing(client.events(tx)) as events:
        async for event in events:
            match event:
                case Reset():
                    if event.reason != "trimmed" or tail:
                        raise SystemExit(f"reset ({event.reason}) after {tail} updates")
                    view = last = int(event.view["sent"])
                case Update():
                    if event.data[0] != last:
                        raise SystemExit(f"update {event.data[0]} after {last - 1}")
                    last, tail = last + 1, tail + 1
                case End():
                    break
    if last != total:
        raise SystemExit(f"the end came after {last} of {total} updates")
    return Joined(view, tail)
