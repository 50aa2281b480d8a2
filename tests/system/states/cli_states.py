"""What the tests of the command line run."""

from __future__ import annotations

import asyncio
from typing import Any

from orbit import Connection, State


class Quick(State):
    """Sends `total` updates and ends."""

    total: int = 3
    n: int = 0

    async def run(self) -> dict[str, int]:
        while self.n < self.total:
            self.n += 1
            await self.transaction.send_update({"n": self.n})
        return {"sent": self.n}


class Room(State, stays_open=True):
    """Repeats what it hears, until it hears `close`."""

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "close":
            await self.transaction.finish(result="closed")
        else:
            await self.transaction.send_update({"heard": data})


class Broken(State, retries=0):
    """Fails."""

    async def run(self) -> None:
        await self.transaction.fail("it was meant to")


class Second(State, retries=0):
    """Fails, and goes on from where it was when it is retried."""

    tried: int = 0

    async def run(self) -> int:
        self.tried += 1
        await self.transaction.send_update(f"try {self.tried}")
        if self.tried == 1:
            await self.transaction.fail("not yet")
        return self.tried


class Patient(State):
    """Runs until it is cancelled."""

    async def run(self) -> None:
        await self.transaction.send_update("begun")
        await asyncio.Event().wait()
