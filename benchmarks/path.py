"""The path from a start to a client, and what idleness costs. It begins and ends with a yardstick of its own."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.figures import header, line, percentiles
from benchmarks.server import commands_processed
from benchmarks.yardstick import script_round_trips
from orbit import Client
from orbit.protocol.messages import End, Update
from tests.support.processes import Process, Stage

STATES = Path(__file__).parent / "states.py"


async def until_end(client: Client, tx: str) -> int:
    updates = 0
    async for event in client.events(tx):
        updates += isinstance(event, Update)
        if isinstance(event, End):
            break
    return updates


async def start_to_first_update(client: Client, rounds: int) -> list[float]:
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        tx = await client.start("First")
        async for _update in client.updates(tx):
            samples.append(time.perf_counter() - began)
            break
        await client.cancel(tx)
    return samples


async def message_to_answer(client: Client, rounds: int) -> list[float]:
    samples = []
    tx = await client.start("Echo")
    async with await client.attach(tx) as attachment:
        events = aiter(attachment)
        await attachment.send("warm")
        while not isinstance(await anext(events), Update):
            pass
        for n in range(rounds):
            began = time.perf_counter()
            sent = asyncio.ensure_future(attachment.send(n))
            while not isinstance(await anext(events), Update):
                pass
            samples.append(time.perf_counter() - began)
            await sent
    await client.cancel(tx)
    return samples


async def commits_per_s(client: Client, transactions: int, each: int) -> float:
    began = time.perf_counter()
    ids = await asyncio.gather(*(client.start("Burst", {"total": each}) for _ in range(transactions)))
    counts = await asyncio.gather(*(until_end(client, tx) for tx in ids))
    if sum(counts) != transactions * each:
        raise SystemExit(f"{sum(counts)} updates arrived instead of {transactions * each}")
    return sum(counts) / (time.perf_counter() - began)


async def idle(seconds: float, url: str, *processes: Process) -> tuple[list[float], float]:
    """CPU share of each process, and commands per second at Redis, once what a start costs is over."""
    await asyncio.sleep(seconds / 3)
    before, cpu = await commands_processed(url), [process.cpu_s() for process in processes]
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    after = await commands_processed(url)
    return [(p.cpu_s() - c) / took for p, c in zip(processes, cpu, strict=True)], (after - before) / took


async def measure(quick: bool) -> None:
    rounds, idle_s = (50, 5.0) if quick else (500, 30.0)
    header()
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder)) as stage:
            server = await stage.embedded()
            line("yardstick: append+publish scripts/s, 1 task", f"{await script_round_trips(server.url, 1, 2):8.0f}")
            line("yardstick: append+publish scripts/s, 64 tasks", f"{await script_round_trips(server.url, 64, 2):8.0f}")
            dev = await stage.dev(STATES, "--redis", server.url, "--workers", "1")
            async with Client([dev.url]) as client:
                await start_to_first_update(client, 10)
                line("start to first update at a client", percentiles(await start_to_first_update(client, rounds)))
                line("message to the State's answer", percentiles(await message_to_answer(client, rounds)))
                line("commits/s, one run awaiting each", f"{await commits_per_s(client, 1, rounds * 10):8.0f}")
                line("commits/s, 100 transactions", f"{await commits_per_s(client, 100, rounds // 2):8.0f}")
            await dev.terminate()
            line("yardstick again: scripts/s, 64 tasks", f"{await script_round_trips(server.url, 64, 2):8.0f}")
        async with Stage(Path(folder)) as stage:
            server = await stage.embedded()
            _, alone = await idle(min(5.0, idle_s), server.url)
            worker = await stage.worker(STATES, server.url)
            (cpu,), commands = await idle(idle_s, server.url, worker)
            line(f"idle worker over {idle_s:.0f} s", f"CPU {cpu:6.2%}   {commands - alone:5.1f} commands/s at Redis")
            await worker.terminate()
            edge = await stage.edge(server.url)
            (cpu,), commands = await idle(idle_s, server.url, edge)
            line(f"idle edge over {idle_s:.0f} s", f"CPU {cpu:6.2%}   {commands - alone:5.1f} commands/s at Redis")
