"""Healthy States, and ones that kill the process that they run in."""

from __future__ import annotations

import os
from typing import Any

from orbit import Connection, State


class Healthy(State, stays_open=True):
    """Beats, four times a second."""

    n: int = 0
    total: int = 1_000_000

    async def run(self) -> int:
        while self.n < self.total:
            self.n += 1
            await self.transaction.send_update(self.n)
            await self.transaction.step(f"rest {self.n}", rest)
            if self.n % 40 == 0:
                await self.transaction.restart()  # its names are forgotten
        return self.n

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.finish(self.n)


async def rest() -> None:
    import asyncio

    await asyncio.sleep(0.25)


class Poisoned(State, stays_open=True):
    """Dies of the message "die"; echoes any other."""

    heard: list[Any] = []  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "die":
            os._exit(66)
        self.heard = [*self.heard, data]
        await self.transaction.send_update({"heard": data, "pid": os.getpid()})


class Doomed(State):
    """Its run kills its process, each time."""

    async def run(self) -> None:
        await self.transaction.send_update("alive")
        os._exit(66)
