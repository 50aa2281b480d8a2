"""The States of the simulation. Each counts its own updates in a field and says the count with each, so that a log
tells whether it is one history; each writes down the messages that it handled, in its fields and in its log."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from orbit import Connection, State

acknowledged: dict[str, list[str]] = {}
"""By transaction, the marks of the updates whose verb has returned: these are written, come what may."""

_told: dict[str, tuple[State, int, str]] = {}
"""By transaction, what the newest item of its loop sent: by which object, the item, its mark."""


def forget() -> None:
    """Another run begins: nothing is known of the one before, nor held by it."""
    acknowledged.clear()
    _told.clear()


async def echo(tag: str) -> str:
    """A step of a handler: what it gives is the message's own."""
    await asyncio.sleep(0.01)
    return tag


class Looping(State, stays_open=True):
    """Loops on a field; a step in each pass."""

    pace_s: float = 0.2
    n: int = 0
    handled: list[str] = []  # noqa: RUF012 - a pydantic field: each instance has its own

    async def run(self) -> None:
        while True:
            await self.transaction.step(f"pause {self.n}", asyncio.sleep, self.pace_s)
            await self.tell_tick()
            if self.n % 7 == 0:
                await self.transaction.restart()

    async def tell_tick(self) -> None:
        mark = secrets.token_hex(4)
        await self.transaction.send_update(self.counted("tick", mark=mark))
        acknowledged.setdefault(self.transaction.id, []).append(mark)

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.handled.append(data["tag"])
        match data["do"]:
            case "raise":
                raise ValueError("as the message asked")
            case "reject":
                connection.reject("as the message asked")
            case "private":
                await connection.send(self.counted("private", tag=data["tag"]))
            case "finish":
                await self.transaction.send_update(self.counted("handled", tag=data["tag"]))
                await self.transaction.finish(result=self.handled)
            case _:
                await self.transaction.send_update(self.counted("handled", tag=data["tag"]))

    def counted(self, kind: str, **more: Any) -> dict[str, Any]:
        """An update, with its number among all."""
        self.n += 1
        return {"n": self.n, "kind": kind, **more}


class Ledger(Looping, stays_open=True):
    """A durable loop; a step in a handler; it is told of connections."""

    async def run(self) -> None:
        await self.transaction.each("ticks", range(1000), self.tick)

    async def tick(self, item: int) -> None:
        before = _told.get(self.transaction.id)
        if before is not None and before[0] is self and before[1] == item - 1:  # committed before this one began
            acknowledged.setdefault(self.transaction.id, []).append(before[2])
        await self.transaction.step("pause", asyncio.sleep, self.pace_s)
        mark = secrets.token_hex(4)
        await self.transaction.send_update(self.counted("tick", item=item, mark=mark))
        _told[self.transaction.id] = self, item, mark

    async def on_update(self, connection: Connection, data: Any) -> None:
        tag = await self.transaction.step("echo", echo, data["tag"])
        await super().on_update(connection, {**data, "tag": tag})

    async def on_new_connection(self, connection: Connection) -> None:
        await connection.send(self.counted("welcome"))

    async def on_disconnect(self, connection: Connection) -> None:
        await self.transaction.send_update(self.counted("left"))


class Room(Looping, stays_open=True, keep_updates=8):
    """Handlers alone, asleep between messages; a view, and a log that is trimmed."""

    async def run(self) -> None:
        return

    def view(self) -> dict[str, Any]:
        return {"n": self.n}


STATES = (Looping, Ledger, Room)
