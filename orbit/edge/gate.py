"""What may go on together, and what only alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Any number pass at a time, until it is shut: then those inside come to their end, and who comes later waits."""

    def __init__(self) -> None:
        self._inside = 0
        self._none_inside = asyncio.Event()
        self._none_inside.set()
        self._open = asyncio.Event()
        self._open.set()
        self._shutting = asyncio.Lock()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Inside, beside others."""
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        self._none_inside.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._none_inside.set()

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Inside alone."""
        async with self._shutting:
            self._open.clear()
            try:
                await self._none_inside.wait()
                yield
            finally:
                self._open.set()
