"""Waiting for what no event tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as `holds()`; other tasks run meanwhile."""
    while not holds():  # noqa: ASYNC110 - what is looked at sets no event
        await asyncio.sleep(0)
