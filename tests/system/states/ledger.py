"""States that write down what they handled, so that a test can tell whether each message was handled once.

A message is `{"client", "n", "do"}`: `count` it, `raise`, `reject` it, answer in `private`, or `finish`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from orbit import Connection, State


class Ledger(State, stays_open=True, keep_updates=100_000):
    """A durable loop, async handlers, connection hooks."""

    pace_s: float = 0.5
    ticks: int = 0
    handled: dict[str, list[int]] = {}  # noqa: RUF012 - a pydantic field: each instance has its own
    connects: int = 0

    async def run(self) -> None:
        await self.transaction.each("ticks", range(1_000_000), self.tick)

    async def tick(self, item: int) -> None:
        await self.transaction.step("pause", asyncio.sleep, self.pace_s)
        self.ticks += 1
        await self.transaction.send_update({"tick": self.ticks, "item": item})

    async def on_new_connection(self, connection: Connection) -> None:
        self.connects += 1
        await connection.send({"welcome": self.connects, "resumed": connection.resumed})

    async def on_update(self, connection: Connection, data: Any) -> None:
        handled = self.note(data)
        if data["do"] == "raise":
            raise ValueError("as the message asked")
        if data["do"] == "reject":
            connection.reject("as the message asked")
        if data["do"] == "private":
            await connection.send({"private": data["n"], "client": data["client"]})
        await self.transaction.send_update({"n": data["n"], "client": data["client"], "handled": handled})
        if data["do"] == "finish":
            await self.transaction.finish(result=self.handled)

    def note(self, data: Any) -> int:
        """Write the message down; how many of its client's there are now."""
        own = self.handled.setdefault(data["client"], [])
        own.append(data["n"])
        return len(own)


class Looping(Ledger, stays_open=True, keep_updates=100_000):
    """A `run` that loops on a field and names what must happen once; no connection hooks of its own."""

    async def run(self) -> None:
        while True:
            await self.transaction.step(f"pause {self.ticks}", asyncio.sleep, self.pace_s)
            self.ticks += 1
            await self.transaction.send_update({"tick": self.ticks})
            if self.ticks % 20 == 0:
                await self.transaction.restart()


class Threaded(Ledger, stays_open=True, keep_updates=100_000):
    """Handlers that are plain functions, in threads."""

    def on_new_connection(self, connection: Connection) -> None:  # type: ignore[override]
        self.connects += 1

    def on_update(self, connection: Connection, data: Any) -> None:  # type: ignore[override]
        handled = self.note(data)
        if data["do"] == "raise":
            raise ValueError("as the message asked")
        if data["do"] == "reject":
            connection.reject("as the message asked")
        if data["do"] == "private":
            connection.sync.send({"private": data["n"], "client": data["client"]})
        self.transaction.sync.send_update({"n": data["n"], "client": data["client"], "handled": handled})
        if data["do"] == "finish":
            self.transaction.sync.finish(result=self.handled)
