"""Orbit in a process whose clocks are wrong: `python -m orbit.cli.verify.skewed OFFSET_S RATE worker ...`.

The time of day is off by `OFFSET_S`, and the monotonic clock runs `RATE` times as fast as it should, so that deadlines
which the process keeps by itself come too early or too late. The event loop's own clock, in C, stays right.
"""

from __future__ import annotations

import sys
import time


def skew(offset_s: float, rate: float) -> None:
    """Make this process's clocks wrong from now on; before anything else is imported."""
    wall, monotonic = time.time, time.monotonic
    wall_ns, monotonic_ns = time.time_ns, time.monotonic_ns
    began, began_ns = monotonic(), monotonic_ns()
    time.time = lambda: wall() + offset_s
    time.time_ns = lambda: wall_ns() + int(offset_s * 1e9)
    time.monotonic = lambda: began + (monotonic() - began) * rate
    time.monotonic_ns = lambda: began_ns + int((monotonic_ns() - began_ns) * rate)


if __name__ == "__main__":
    skew(float(sys.argv[1]), float(sys.argv[2]))
    del sys.argv[1:3]
    from orbit.cli.main import main

    main()
