"""The way to the store in memory, which says when something was written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from orbit.store.address import Connect
from orbit.store.link import Argument, Link
from orbit.store.script import Script


class NoticingLink(Link):
    """A Link on which one can wait for the next write, whoever's it is."""

    def __init__(self, connect: Connect, timeout_s: float) -> None:
        super().__init__(connect, timeout_s)
        self._written = asyncio.Event()

    async def run(self, script: Script, keys: Iterable[str], *arguments: Argument) -> Any:
        reply = await super().run(script, keys, *arguments)
        if script.writes:
            self._written.set()
        return reply

    async def until(self, found: Callable[[], Awaitable[bool]]) -> None:
        """Return when `await found()` holds; it is asked after each write."""
        while True:
            self._written.clear()
            if await found():
                return
            await self._written.wait()
