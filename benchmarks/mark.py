"""What is called in a worker's process counts there: when the first and the last were called is written to files."""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER, COUNT = "BENCH_MARKS", "BENCH_COUNT"
"""Variables of the environment: where, and after how many calls the last was called."""
FIRST, LAST = "first", "last"

_calls = 0


def called() -> None:
    """One more."""
    global _calls
    _calls += 1
    if _calls == 1:
        note(FIRST)
    if _calls == int(os.environ[COUNT]):
        note(LAST)


def note(name: str) -> None:
    """Write down the time, in seconds that every process of this machine shares."""
    folder = Path(os.environ[FOLDER])
    part = folder / f"{name}.part"
    part.write_text(repr(time.monotonic()))
    part.rename(folder / name)


def noted(folder: Path, name: str) -> float | None:
    """The time that was noted, or None so far."""
    try:
        return float((folder / name).read_text())
    except FileNotFoundError:
        return None
