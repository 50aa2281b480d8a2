"""1,000 clients that stop reading a transaction with 1,000 updates a second: what they cost the edge and the others."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import header, line, mib, percentiles
from benchmarks.raw import Reader, stalled
from tests.support.processes import Process, Stage

STATES = Path(__file__).parent / "states.py"
PER_S = 1000
SIZE = 200
READERS = 5


async def measure(quick: bool) -> None:
    header()
    clients, seconds = (200, 5) if quick else (1000, 30)
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            await run(stage, clients, seconds)


async def run(stage: Stage, clients: int, seconds: int) -> None:
    """Two times the same: the readers alone, then with the others beside them.

    Raises:
        SystemExit: A reader missed an update.
    """
    server = await stage.embedded()
    await stage.worker(STATES, server.url)
    edge = await stage.edge(server.url)
    tx = await stage.start(edge.url, "Ticker", every_s=1 / PER_S, size=SIZE)
    readers = [await Reader.open(edge.url, tx) for _ in range(READERS)]
    await asyncio.sleep(2)
    alone, before = await watch(readers, edge, seconds)
    began = time.perf_counter()
    sockets = await asyncio.to_thread(stalled, edge.url, tx, clients)
    waiting = -1.0
    while waiting != (waiting := await stage.metric(edge.url, "orbit_edge_waiting_bytes")) or not waiting:
        await asyncio.sleep(0.2)
    line(f"until {clients} clients had what they take", f"{time.perf_counter() - began:.1f} s")
    onset = [sample for reader in readers for sample in reader.samples_s]
    line("meanwhile, to the others", percentiles(onset))
    for reader in readers:
        reader.samples_s.clear()
    beside, after = await watch(readers, edge, seconds)
    for one in sockets:
        one.close()
    if any(reader.gaps for reader in readers):
        raise SystemExit(f"updates are missing: {[reader.gaps for reader in readers]}")
    line(f"{len(alone) / READERS / seconds:.0f} updates/s to {READERS} readers alone", percentiles(alone))
    line(f"{len(beside) / READERS / seconds:.0f} updates/s with {clients} stalled clients beside", percentiles(beside))
    line("p99 with them, to that without", f"{_p99(beside) / _p99(alone):.2f}")
    line("the edge alone, first and most", f"{mib(before[0])} and {mib(max(before))}")
    line("with them, after each tenth", " ".join(f"{size / 2**20:.1f}" for size in after[:: max(1, len(after) // 10)]))
    line("for each of them", f"{(statistics.mean(after) - max(before)) / clients / 1024:.0f} KiB")


async def watch(readers: list[Reader], edge: Process, seconds: int) -> tuple[list[float], list[int]]:
    """What the readers saw, and the edge's memory every half second."""
    for reader in readers:
        reader.samples_s.clear()
    sizes = []
    for _ in range(2 * seconds):
        await asyncio.sleep(0.5)
        sizes.append(edge.rss_bytes())
    return [sample for reader in readers for sample in reader.samples_s], sizes


def _p99(samples_s: list[float]) -> float:
    return statistics.quantiles(samples_s, n=100)[98]
