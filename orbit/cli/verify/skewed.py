"""Orbit in a process whose clocks are wrong: `python -m orbit.cli.verify.skewed OFFSET_S RATE worker ...`.

The time of day is off by `OFFSET_S`, and the monotonic clock runs `RATE` times as fast as it should, so that deadlines
which the process keeps by itself come too early or too late. The event loop's own clock, in C, stays right.
"""

from __future__ import annotations

import sys
import time

RUNNING = tuple(
    clock for clock in (time.CLOCK_MONOTONIC, getattr(time, "CLOCK_BOOTTIME", None)) if clock is not None
)
"""The clocks that only run: leases are held by these."""


def skew(offset_s: float, rate: float) -> None:
    """Make this process's clocks wrong from now on; before anything else is imported."""
    right_ns = time.clock_gettime_ns
    began = {clock: right_ns(clock) for clock in RUNNING}

    def wrong_ns(clock: int) -> int:
        if clock in began:
            return began[clock] + int((right_ns(clock) - began[clock]) * rate)
        return right_ns(clock) + (int(offset_s * 1e9) if clock == time.CLOCK_REALTIME else 0)

    time.clock_gettime_ns = wrong_ns
    time.clock_gettime = lambda clock: wrong_ns(clock) / 1e9
    time.time_ns = lambda: wrong_ns(time.CLOCK_REALTIME)
    time.time = lambda: wrong_ns(time.CLOCK_REALTIME) / 1e9
    time.monotonic_ns = lambda: wrong_ns(time.CLOCK_MONOTONIC)
    time.monotonic = lambda: wrong_ns(time.CLOCK_MONOTONIC) / 1e9


if __name__ == "__main__":
    skew(float(sys.argv[1]), float(sys.argv[2]))
    del sys.argv[1:3]
    from orbit.cli.main import main

    main()
