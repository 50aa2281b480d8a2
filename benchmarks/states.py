"""The States that are measured."""

import asyncio
import os
import time
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


class Sleeper(State):
    """Sleeps until `wake_s` (seconds since 1970), then adds a line to `path`."""

    wake_s: float
    path: str

    async def run(self) -> None:
        await self.transaction.sleep("night", max(0.0, self.wake_s - time.time()))
        line = f"{self.transaction.id} {time.time() - self.wake_s:.3f}\n"
        with open(self.path, "ab", buffering=0) as file:  # noqa: ASYNC230 - it is short
            file.write(line.encode())


class Alarm(State, stays_open=True):
    """Sets a timer, and says how late it rang."""

    after_s: float
    due_s: float = 0.0

    async def run(self) -> None:
        self.due_s = time.time() + self.after_s
        await self.transaction.set_timer("alarm", self.after_s)

    async def on_timer(self, name: str) -> None:
        await self.transaction.send_update(time.time() - self.due_s)
        await self.transaction.finish()


class Long(State):
    """Sends `total` updates of `size` characters, by `each`."""

    total: int
    size: int = 100
    sent: int = 0

    async def run(self) -> None:
        await self.transaction.each("rows", range(self.total), self.row)

    async def row(self, n: int) -> None:
        self.sent += 1
        await self.transaction.send_update([n, "x" * self.size])

    def view(self) -> dict[str, int]:
        return {"sent": self.sent}


class Ticker(State, stays_open=True, keep_updates=200_000):
    """Sends an update every `every_s`: number, time, `size` characters, process; ends when told anything."""

    every_s: float
    size: int
    n: int = 0

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            self.n += 1
            await self.transaction.send_update([self.n, time.time(), "x" * self.size, os.getpid()])
            due = max(due + self.every_s, time.monotonic() - 1)
            if (pause := due - time.monotonic()) > 0:
                await asyncio.sleep(pause)

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.finish(result=self.n)


class Part(Burst, retain_s=20):
    """A child that is soon forgotten."""


class Mixed(State, retain_s=20):
    """A little of everything that a worker does, and then it is over."""

    rounds: int = 3
    n: int = 0

    async def run(self) -> int:
        child = await self.transaction.start("child", Part(total=5))
        while self.n < self.rounds:
            got = await self.transaction.step(f"work {self.n}", work, self.n)
            await self.transaction.sleep(f"rest {self.n}", 0.05)
            self.n += 1
            await self.transaction.send_update([self.n, got])
        return self.n + int(await child.result())


async def work(n: int) -> int:
    await asyncio.sleep(0.01)
    return n * n


class Room(State, stays_open=True, keep_updates=1_000):
    """Echoes to all, and lives on and on: its log is trimmed, its sessions come and go."""

    heard: int = 0

    async def on_new_connection(self, connection: Connection) -> None:
        await connection.send("welcome")

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.heard += 1
        await self.transaction.send_update([self.heard, data])

    def view(self) -> int:
        return self.heard
