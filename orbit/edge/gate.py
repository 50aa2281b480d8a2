"""What may go on together, and what only alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Any number pass at a time, until it is shut: then those inside come to their end, and who comes later waits.

    It is small while nobody waits: there is one for each attachment.
    """

    __slots__ = ("_emptied", "_inside", "_opened")

    def __init__(self) -> None:
        self._inside = 0
        self._opened: asyncio.Event | None = None
        self._emptied: asyncio.Event | None = None

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Inside, beside others."""
        while self._opened is not None:
            await self._opened.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside and self._emptied is not None:
                self._emptied.set()

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Inside alone."""
        while self._opened is not None:
            await self._opened.wait()
        opened = self._opened = asyncio.Event()
        try:
            if self._inside:
                self._emptied = asyncio.Event()
                await self._emptied.wait()
            yield
        finally:
            self._opened = self._emptied = None
            opened.set()
