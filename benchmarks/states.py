"""The States that are measured."""

from typing import Any

from orbit import Connection, State


class Burst(State):
    """Sends `total` updates, awaiting each."""

    total: int
    n: int = 0

    async def run(self) -> int:
        while self.n < self.total:
            self.n += 1
            await self.transaction.send_update(self.n)
        return self.n


class Echo(State, stays_open=True):
    """Answers each message to all."""

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.send_update(data)


class First(State, stays_open=True):
    """Sends one update at once."""

    async def run(self) -> None:
        await self.transaction.send_update("first")
