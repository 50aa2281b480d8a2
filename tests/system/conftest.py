"""A stage of real processes for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.processes import Stage

STATES = Path(__file__).parent / "states"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Processes that end with the test; what they printed last is shown where it failed."""
    async with Stage(tmp_path) as made:
        made.edge_options = ("--max-lag-s", "0")  # else one that stood still on a busy machine turns the tests away
        try:
            yield made
        finally:
            print(made.tails())
