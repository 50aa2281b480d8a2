"""A crowd that comes at once and reads a log from its start, each client at its own pace."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.figures import header, line
from benchmarks.raw import read_all
from benchmarks.server import cpu_s
from tests.support.processes import Stage

STATES = Path(__file__).parent / "states.py"
SIZE = 100


async def measure(quick: bool) -> None:
    header()
    clients, updates = (50, 1000) if quick else (200, 5000)
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            await run(stage, clients, updates)


async def run(stage: Stage, clients: int, updates: int) -> None:
    server = await stage.embedded()
    await stage.worker(STATES, server.url)
    edge = await stage.edge(server.url)
    tx = await stage.start(edge.url, "Long", total=updates, size=SIZE)
    while (await stage.show(edge.url, tx))["status"] != "finished":
        await asyncio.sleep(0.1)
    last = b'"type":"end"'
    await asyncio.to_thread(read_all, edge.url, tx, 1, last)
    before = edge.cpu_s(), await cpu_s(server.url)
    took = await asyncio.to_thread(read_all, edge.url, tx, clients, last)
    after = edge.cpu_s(), await cpu_s(server.url)
    line(f"{clients} clients that read {updates} updates of {SIZE} characters", f"{took:.2f} s")
    line("updates/s to all of them together", f"{clients * updates / took:.0f}")
    line("CPU of the edge, of Redis", f"{after[0] - before[0]:.2f} s, {after[1] - before[1]:.2f} s")
    line("pages read", f"{await stage.metric(edge.url, 'orbit_edge_pages_read_total'):.0f}")
