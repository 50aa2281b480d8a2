"""Waiting for what nobody announces."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0


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
