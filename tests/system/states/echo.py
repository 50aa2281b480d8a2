"""A State that counts aloud and says what it hears."""

from __future__ import annotations

import asyncio
from typing import Any

from orbit import Connection, State


class Echo(State, stays_open=True):
    """Sends `limit` numbers, one every `every_s`; finishes once it has heard `until` messages."""

    limit: int = 300
    every_s: float = 0.01
    until: int = 30
    n: int = 0
    heard: list[Any] = []  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def run(self) -> None:
        while self.n < self.limit:
            self.n += 1
            await self.transaction.send_update({"n": self.n})
            await asyncio.sleep(self.every_s)

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.heard = [*self.heard, data]
        await connection.send({"heard": data})
        if len(self.heard) == self.until:
            await self.transaction.finish(result=self.heard)
