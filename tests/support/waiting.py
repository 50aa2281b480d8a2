"""Waiting for what nobody announces, and how long to wait at most: far longer than a slow, busy machine takes, so that
an end of patience means a hang, never a slow machine."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0
"""For one event."""
SCENE_S = 180.0
"""For a whole scene of real processes; less than pytest's own limit of a test."""


async def soon(condition: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    """Return when `condition()` holds; it is asked again and again, everything else going on meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.001)
