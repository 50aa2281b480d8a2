"""The servers that tests of clusters and failovers run on: the wheel's, and Debian's Redis 7.0."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

VALKEY = "valkey"
PROGRAMS = [VALKEY, pytest.param("redis", marks=pytest.mark.debian)]


def program(name: str) -> Path | None:
    """What to start; None: the wheel's server."""
    if name == VALKEY:
        return None
    found = shutil.which("redis-server")
    assert found, "redis-server isn't on the PATH"
    return Path(found)
