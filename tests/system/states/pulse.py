"""States that say who runs them, how often and when."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

from orbit import Connection, State


class Pulse(State, stays_open=True, keep_updates=200_000):
    """Sends an update every `every_s` with the process that ran the turn; `padding_bytes` makes it large."""

    every_s: float = 0.01
    padding_bytes: int = 0
    limit: int = 0
    n: int = 0

    async def run(self) -> None:
        due = time.monotonic()
        while not self.limit or self.n < self.limit:
            self.n += 1
            data = {"n": self.n, "pid": os.getpid(), "at": time.time(), "padding": bytes(self.padding_bytes)}
            await self.transaction.send_update(data)
            if self.every_s:
                due = max(due + self.every_s, time.monotonic() - 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "finish":
            await self.transaction.finish(result=self.n)


class Watchful(State, stays_open=True):
    """Tells everyone who came and who went, and keeps secrets."""

    async def on_new_connection(self, connection: Connection) -> None:
        await self.transaction.send_update({"came": connection.session, "resumed": connection.resumed})

    async def on_disconnect(self, connection: Connection) -> None:
        await self.transaction.send_update({"gone": connection.session, "at": time.time()})

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "finish":
            await self.transaction.finish()
        elif data == "mark":
            await self.transaction.send_update("marked")
        else:
            await connection.send({"secret": data})


class Stuck(State, stays_open=True):
    """A plain hook that never returns."""

    def on_update(self, connection: Connection, data: Any) -> None:
        if data == "stick":
            threading.Event().wait()
        self.transaction.sync.send_update({"did": data, "pid": os.getpid()})


class Counting(Pulse, stays_open=True, keep_updates=200_000):
    """A pulse that counts who comes and goes; its result is how often it was told."""

    came: int = 0
    gone: int = 0

    async def on_new_connection(self, connection: Connection) -> None:
        self.came += 1

    async def on_disconnect(self, connection: Connection) -> None:
        self.gone += 1

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "finish":
            await self.transaction.finish(result=[self.came, self.gone])
