"""What each durability costs: commits per second and the wait for a receipt, on the same machine in one run."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.figures import header, line, percentiles
from benchmarks.path import STATES, commits_per_s
from benchmarks.yardstick import script_round_trips
from orbit import Client
from orbit.store.embedded import EmbeddedServer
from orbit.store.embedded.group import follows, until
from tests.support.processes import Stage

KINDS: tuple[tuple[str, str, int, float], ...] = (
    ("memory", "no", 0, 1.0), ("replicated", "no", 1, 1.0), ("replicated, of two", "no", 2, 1.0),
    ("fsync", "always", 0, 1.0), ("replicated-fsync", "always", 1, 1.0), ("fsync, once a second", "everysec", 0, 0.005),
)  # fmt: skip
"""Name, `appendfsync` of each server, replicas, and how much of all is measured."""


@asynccontextmanager
async def servers(appendfsync: str, replicas: int) -> AsyncIterator[str]:
    """A primary and its replicas: the primary's URL."""
    config = {"appendfsync": appendfsync, "repl-diskless-sync-delay": "0"}
    async with EmbeddedServer(tcp=True, config=config) as primary:
        behind = [
            EmbeddedServer(tcp=True, config={**config, "replicaof": f"127.0.0.1 {primary.port}"})
            for _ in range(replicas)
        ]
        try:
            for server in behind:
                await server.start()
                await until("a first copy", lambda server=server: follows(server))  # type: ignore[misc]
            yield primary.url
        finally:
            for server in behind:
                await server.stop()


async def receipts(client: Client, rounds: int, at_once: int) -> list[float]:
    """How long each message waits for its receipt, so many under way at a time."""
    tx = await client.start("Echo")
    samples: list[float] = []
    async with await client.attach(tx, after="$") as attachment:

        async def read() -> None:
            async for _ in attachment:
                pass

        async def send(count: int) -> None:
            for n in range(count):
                began = time.perf_counter()
                await attachment.send(n)
                samples.append(time.perf_counter() - began)

        reading = asyncio.create_task(read())
        await asyncio.gather(*(send(rounds // at_once) for _ in range(at_once)))
        reading.cancel()
    await client.cancel(tx)
    return samples


async def measure(quick: bool) -> None:
    header()
    for name, appendfsync, replicas, share in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            async with servers(appendfsync, replicas) as url, Stage(Path(folder)) as stage:
                rounds = max(4, int((50 if quick else 500) * share))
                print(f" {name}")
                line("yardstick: append+publish scripts/s, 64 tasks", f"{await script_round_trips(url, 64, 1):8.0f}")
                kind = name.partition(",")[0]
                more = ("--replicas", str(replicas)) if replicas else ()
                dev = await stage.dev(STATES, "--redis", url, "--workers", "1", "--durability", kind, *more)
                async with Client([dev.url]) as client:
                    await commits_per_s(client, 1, max(4, int(100 * share)))
                    line("commits/s, one run awaiting each", f"{await commits_per_s(client, 1, rounds * 10):8.0f}")
                    line("commits/s, 100 transactions", f"{await commits_per_s(client, 100, max(4, rounds // 2)):8.0f}")
                    line("receipt, one message at a time", percentiles(await receipts(client, rounds, 1)))
                    line("receipt, 20 at a time", percentiles(await receipts(client, max(40, rounds * 2), 20)))
                await dev.terminate()
