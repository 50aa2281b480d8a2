"""A seed is all that there is to a run: in another process, with other hashes, it is the same to the last byte."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.loop import Process, SimLoop
from tests.simulation.scenario import run_seed

pytestmark = pytest.mark.simulation

ROOT = Path(__file__).parents[2]
SEEDS = range(8)
PRINT = (
    "from tests.simulation.scenario import run_seed\n"
    "for seed in {seeds}:\n"
    "    print(run_seed(seed).digest.hexdigest())\n"
)


def digests(hash_seed: str, seeds: list[int]) -> list[str]:
    command = [sys.executable, "-c", PRINT.format(seeds=seeds)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_seed_gives_the_same_run_in_any_process() -> None:
    seeds = list(SEEDS)
    there = digests("1", seeds)
    assert there == digests("2", seeds[::-1])[::-1]
    assert len(set(there)) == len(seeds)


def test_a_paused_process_goes_on_later_and_a_dead_one_never_does() -> None:
    loop = SimLoop(random.Random(1))
    said: list[str] = []

    async def speak(name: str) -> None:
        try:
            for n in range(3):
                await asyncio.sleep(1.0)
                said.append(f"{name}{n} at {loop.time():.0f}")
        finally:
            said.append(f"{name} over")

    a, b = (Process(name, loop) for name in "ab")

    async def main() -> None:
        a.spawn(speak("a"))
        b.spawn(speak("b"))
        await asyncio.sleep(1.5)
        a.pause()
        b.kill()
        await asyncio.sleep(5.0)
        a.wake()
        await asyncio.sleep(10.0)

    loop.run_until_complete(loop.world.spawn(main()))
    alive, said = said[:], []
    assert sorted(alive[:2]) == ["a0 at 1", "b0 at 1"]
    assert alive[2:] == ["a1 at 6", "a2 at 8", "a over"]
    loop.let_go()
    loop.close()


def test_the_run_of_a_seed_shows_nothing_that_must_not_be() -> None:
    world = run_seed(1)
    assert world.found == []
    assert world.server.happened["failover"] > 0
