"""No-op transactions per second of one worker process, from start to finish, beside taskiq, streaq and saq.

Each runs in its own worker process with a hundred at once, on a server of its own, started by one process with a
hundred starters. Two figures each: `drained`, where all were started before the worker was, tells what the worker's
process can do; `live`, where they are started while it works, tells what the machine does in all. Orbit commits the end
of each, with its result, and tells whoever watches; the peers keep what they keep by default.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import header, line
from benchmarks.mark import COUNT, FIRST, FOLDER, LAST, noted
from orbit import Broker
from tests.support.processes import Process, Stage

ROOT = Path(__file__).parent.parent
AT_ONCE = 100
BIN = Path(sys.executable).parent
PEERS = ("taskiq", "streaq", "saq")
PATIENCE_S = 120.0


async def measure(quick: bool) -> None:
    header("taskiq", "taskiq-redis", "streaq", "saq", "redis", "uvloop")
    count, rounds = (500, 1) if quick else (20_000, 3)
    for n in range(rounds):
        for system in ("orbit", *PEERS):
            figures = [f"{how} {await figure(system, count, live=how == 'live')}" for how in ("drained", "live")]
            line(f"{system}, {count} no-ops, round {n + 1} of {rounds}", "   ".join(figures))


async def figure(system: str, count: int, *, live: bool) -> str:
    try:
        return f"{await rate(system, count, live=live):7.0f}/s"
    except TimeoutError:
        if system not in PEERS:
            raise
        return f"not all of them had run after {PATIENCE_S:.0f} s"


async def rate(system: str, count: int, *, live: bool) -> float:
    """No-ops per second of one worker process of that system. Raises TimeoutError where some never ran."""
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            server = await stage.embedded(tcp=True)
            wanted = count + 1 if live else count
            env = {
                "BENCH_REDIS": server.url, FOLDER: folder, COUNT: str(wanted),
                "PYTHONPATH": str(ROOT),
            }  # fmt: skip
            if live:
                worker = await _worker(stage, system, env)
                starter = await _starter(stage, system, count, env, "--warm")
                await _until_noted(stage, Path(folder), LAST, worker)
            else:
                starter = await _starter(stage, system, count, env)
                await starter.wait()
                worker = await _worker(stage, system, env)
                await _until_noted(stage, Path(folder), LAST, worker)
            if system == "orbit":
                await _all_finished(env["BENCH_REDIS"], wanted)
            began = noted(Path(folder), "starting" if live else FIRST)
            ended = noted(Path(folder), LAST)
            assert began is not None
            assert ended is not None
            return count / (ended - began)


async def _worker(stage: Stage, system: str, env: dict[str, str]) -> Process:
    redis = env["BENCH_REDIS"]
    commands = {
        "orbit": (sys.executable, "-m", "orbit", "worker", "benchmarks.peers.orbit_app", "--redis", redis,
                  "--concurrency", str(AT_ONCE)),
        "taskiq": (str(BIN / "taskiq"), "worker", "benchmarks.peers.taskiq_app:broker", "--workers", "1",
                   "--max-async-tasks", str(AT_ONCE), "--log-level", "WARNING"),
        "streaq": (str(BIN / "streaq"), "run", "benchmarks.peers.streaq_app:worker"),
        "saq": (str(BIN / "saq"), "benchmarks.peers.saq_app.settings"),
    }  # fmt: skip
    return await stage.spawn(system, *commands[system], env=env)


async def _starter(stage: Stage, system: str, count: int, env: dict[str, str], *options: str) -> Process:
    command = (sys.executable, "-m", "benchmarks.peers.starting", system, str(count), *options)
    return await stage.spawn("starter", *command, env=env)


async def _until_noted(stage: Stage, folder: Path, name: str, worker: Process) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while noted(folder, name) is None:
            if not worker.alive:
                raise SystemExit(stage.tails())
            await asyncio.sleep(0.05)


async def _all_finished(url: str, count: int) -> None:
    """Every one of them has ended as it should."""
    async with Broker(url) as broker:
        async with asyncio.timeout(30):
            while (await broker.list(status="running", limit=1)).transactions:
                await asyncio.sleep(0.02)
        found, page = 0, await broker.list(status="finished", limit=1000)
        while True:
            found += len(page.transactions)
            if page.next is None:
                break
            page = await broker.list(status="finished", limit=1000, page=page.next)
    if found != count:
        raise SystemExit(f"{found} have finished instead of {count}")
