"""Runs seeds of the simulation: `python -m tests.simulation 0:2000 --jobs 2`, `python -m tests.simulation 1234`."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable

from tests.simulation.scenario import run_seed

SHOWN = 5


def outcome(seed: int) -> tuple[int, list[str], Counter[str]]:
    """What was found, and what went wrong on purpose, in the run of a seed."""
    try:
        world = run_seed(seed)
    except Exception as error:
        return seed, [f"the run itself failed: {type(error).__name__}: {error}"], Counter()
    return seed, world.found, world.server.happened


def seeds_of(texts: Iterable[str]) -> list[int]:
    """`7` is a seed, `0:100` a hundred of them."""
    seeds: list[int] = []
    for text in texts:
        first, colon, end = text.partition(":")
        seeds += range(int(first), int(end) if colon else int(first) + 1)
    return seeds


def main(arguments: list[str] | None = None) -> int:
    """1 where a run showed something that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", nargs="+", help="a seed, or first:end")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args(arguments)
    seeds, began_s = seeds_of(options.seeds), time.monotonic()
    happened: Counter[str] = Counter()
    bad = 0
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(seeds))) as pool:
        for seed, found, counts in pool.imap_unordered(outcome, seeds, chunksize=max(1, min(20, len(seeds) // 50))):
            happened += counts
            if found:
                bad += 1
                print(f"seed {seed}: {len(found)} findings (again: make simulate SEEDS={seed})")
                print("".join(f"    {line[:1000]}\n" for line in found[:SHOWN]), end="", flush=True)
    took_s = time.monotonic() - began_s
    print(f"what happened: {', '.join(f'{count} {what}' for what, count in happened.most_common())}")
    print(f"{len(seeds)} seeds in {took_s:.0f} s ({len(seeds) / took_s:.1f} a second), {bad} with findings")
    return 1 if bad else 0
