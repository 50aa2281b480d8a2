"""Starts no-ops of one system, in a process of its own: `python -m benchmarks.peers.starting SYSTEM COUNT [--warm]`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.mark import FIRST, FOLDER, note, noted

AT_ONCE = 100
Start = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def orbit() -> AsyncIterator[Start]:
    from benchmarks.peers.orbit_app import Noop
    from orbit import Broker

    async with Broker(os.environ["BENCH_REDIS"]) as broker:
        yield lambda: broker.start(Noop())


@asynccontextmanager
async def taskiq() -> AsyncIterator[Start]:
    from benchmarks.peers.taskiq_app import broker, noop

    await broker.startup()
    yield noop.kiq
    await broker.shutdown()


@asynccontextmanager
async def streaq() -> AsyncIterator[Start]:
    from benchmarks.peers.streaq_app import noop, worker

    async with worker:
        yield noop.enqueue


@asynccontextmanager
async def saq() -> AsyncIterator[Start]:
    from benchmarks.peers.saq_app import queue

    await queue.connect()
    yield lambda: queue.enqueue("noop")
    await queue.disconnect()


SYSTEMS: dict[str, Callable[[], AbstractAsyncContextManager[Start]]] = {
    "orbit": orbit, "taskiq": taskiq, "streaq": streaq, "saq": saq,
}  # fmt: skip


async def start(system: str, count: int, *, warm: bool) -> None:
    """Start `count`, and note when that began and ended; `warm`: one before them all, which must have run."""
    folder = Path(os.environ[FOLDER])
    async with SYSTEMS[system]() as once:
        if warm:
            await once()
            while noted(folder, FIRST) is None:
                await asyncio.sleep(0.01)
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                await once()

        note("starting")
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        note("started")


if __name__ == "__main__":
    asyncio.run(start(sys.argv[1], int(sys.argv[2]), warm="--warm" in sys.argv))
