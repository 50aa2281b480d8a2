"""Measure: `python -m benchmarks [WHAT ...] [--quick]`.

Everything runs on this machine, on real processes and the embedded server. Figures go up and down with the machine, so
each is printed beside a yardstick or a peer of the same run, and only where every count was right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import crowd, durability, jobs, path, recovery, sleeping, stalled, stream
from benchmarks.running import run

MEASUREMENTS: dict[str, tuple[str, Callable[[bool], Coroutine[Any, Any, None]]]] = {
    "path": ("from a start to a client; commits per second; what idleness costs", path.measure),
    "jobs": ("no-op transactions per second of one worker process, beside taskiq, streaq and saq", jobs.measure),
    "durability": ("what each durability costs: commits per second, the wait for a receipt", durability.measure),
    "sleeping": ("100,000 transactions asleep, and all of them woken at once", sleeping.measure),
    "crowd": ("200 clients that come at once and read a log from its start", crowd.measure),
    "stalled": ("1,000 clients that stop reading, beside others that don't", stalled.measure),
    "recovery": ("how long clients see nothing when a worker or an edge is lost, or told to leave", recovery.measure),
    "stream": ("1,000,000 updates of one transaction, and who joins late", stream.measure),
}


def main() -> None:
    listed = "\n".join(f"  {name:<10} {what}" for name, (what, _) in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__}\n{listed}", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help="one of those above; all of them, unless told")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it works")
    arguments = parser.parse_args()
    for name in arguments.what or MEASUREMENTS:
        if name not in MEASUREMENTS:
            parser.error(f"{name}: not measured here; it is one of {', '.join(MEASUREMENTS)}")
    for name in arguments.what or MEASUREMENTS:
        print(f"\n{name}: {MEASUREMENTS[name][0]}")
        run(MEASUREMENTS[name][1](arguments.quick))


if __name__ == "__main__":
    main()
