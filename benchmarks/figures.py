"""How figures are printed."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version


def header(*packages: str) -> None:
    """The machine, and the versions of what is measured beside Orbit."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if packages:
        print(", ".join(f"{package} {version(package)}" for package in packages))


def line(what: str, figure: str) -> None:
    print(f"  {what:<58} {figure}", flush=True)


def percentiles(samples_s: Sequence[float]) -> str:
    cuts = statistics.quantiles(samples_s, n=100)
    return f"p50 {cuts[49] * 1000:6.2f} ms   p99 {cuts[98] * 1000:6.2f} ms   ({len(samples_s)} samples)"


def mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
