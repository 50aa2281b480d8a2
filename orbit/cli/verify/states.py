"""The workload of `orbit verify`: a State for each promise. Each numbers what it sends, and notes what it was told.

What the numbers mean, and how they are judged, is in `orbit.verify.work`. A message is `{"client", "n", "do"}`; `do` is
`count`, `private` (an answer to its sender alone), `raise`, `reject`, `burst` (many large updates) or `finish`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Any

from orbit import Connection, State

STUMBLES = 0.02
"""How often a `run` raises, for no reason at all."""
PAD = "." * 4096
BURST = 120
FEED_KEEPS = 60
LONG_NAP_S = 4.0
"""Long enough that a transaction is unloaded meanwhile."""


def stumble() -> None:
    """Raise, now and then."""
    if random.random() < STUMBLES:
        raise RuntimeError("as happens now and then")


class Ledger(State, stays_open=True, keep_updates=100_000, retries=1_000_000, backoff_s=0.05):
    """What all have: the numbers, and what each client's messages were."""

    pace_s: float = 0.2
    said: int = 0
    said_once: int = 0
    said_to: dict[str, int] = {}  # noqa: RUF012 - a pydantic field: each instance has its own
    handled: dict[str, list[int]] = {}  # noqa: RUF012
    ticks: int = 0

    def view(self) -> dict[str, Any]:
        return {"i": self.said, "once": self.said_once, "p": self.said_to}

    def public(self, **data: Any) -> dict[str, Any]:
        """The next update for all."""
        self.said += 1
        return {"i": self.said, **data}

    def private(self, connection: Connection, data: Any) -> dict[str, Any]:
        """The next update for this session."""
        name = str(connection.session)
        count = self.said_to[name] = self.said_to.get(name, 0) + 1
        return {"p": count, "to": name, "client": data["client"], "n": data["n"]}

    def note(self, data: Any) -> None:
        """Write a message down; raise if that is what it asks for."""
        self.handled.setdefault(data["client"], []).append(data["n"])
        if data["do"] == "raise":
            raise ValueError("as the message asked")


class Room(Ledger):
    """Handlers alone, for many clients. The base of those that run, too."""

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.note(data)
        if data["do"] == "reject":
            connection.reject("as the message asked")
        if data["do"] == "private":
            await connection.send(self.private(connection, data))
        if data["do"] == "burst":
            await self.transaction.send_update(*(self.public(pad=PAD) for _ in range(BURST)))
        await self.transaction.send_update(self.public(client=data["client"], n=data["n"]))
        if data["do"] == "finish":
            await self.transaction.finish(result=self.handled)


class Ticker(Room):
    """A `run` that loops on a field, and names a pause before each tick."""

    async def run(self) -> None:
        while True:
            await self.transaction.step(f"pause {self.ticks}", asyncio.sleep, self.pace_s)
            stumble()
            self.ticks += 1
            await self.transaction.send_update(self.public(tick=self.ticks))
            if self.ticks % 20 == 0:
                await self.transaction.restart()


class Looper(Room):
    """A durable loop, and hooks for those who come and go."""

    present: int = 0

    async def run(self) -> None:
        await self.transaction.each("ticks", range(1_000_000), self.tick)

    async def tick(self, item: int) -> None:
        await self.transaction.step("pause", asyncio.sleep, self.pace_s)
        stumble()
        self.ticks += 1
        await self.transaction.send_update(self.public(tick=self.ticks, item=item))

    async def on_new_connection(self, connection: Connection) -> None:
        self.present += 1

    async def on_disconnect(self, connection: Connection) -> None:
        self.present -= 1


class Plain(Ticker):
    """Handlers that are plain functions, in threads."""

    def on_update(self, connection: Connection, data: Any) -> None:  # type: ignore[override]
        self.note(data)
        if data["do"] == "reject":
            connection.reject("as the message asked")
        if data["do"] == "private":
            connection.sync.send(self.private(connection, data))
        if data["do"] == "burst":
            self.transaction.sync.send_update(*(self.public(pad=PAD) for _ in range(BURST)))
        self.transaction.sync.send_update(self.public(client=data["client"], n=data["n"]))
        if data["do"] == "finish":
            self.transaction.sync.finish(result=self.handled)


class Feed(Room, keep_updates=FEED_KEEPS):
    """Many updates, of which few are kept: who was away for long gets a view."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.pace_s)
            self.ticks += 1
            await self.transaction.send_update(self.public(tick=self.ticks))


class Sleeper(Room):
    """Naps, some of which unload it, and a timer that rings meanwhile."""

    rung: int = 0

    async def run(self) -> None:
        while True:
            await self.transaction.set_timer(f"bell {self.ticks}", self.pace_s / 2)
            await self.transaction.sleep(f"nap {self.ticks}", LONG_NAP_S if self.ticks % 8 == 7 else self.pace_s)
            self.ticks += 1
            await self.transaction.send_update(self.public(tick=self.ticks))
            if self.ticks % 8 == 0:
                await self.transaction.restart()

    async def on_timer(self, name: str) -> None:
        self.rung += 1
        await self.transaction.send_update(self.public(rung=self.rung, bell=name))


class Drawer(Room):
    """Steps whose results are drawn: once recorded, the same for ever. And updates under a name."""

    drawn: int = 0

    async def run(self) -> None:
        while True:
            n = self.ticks + 1
            token = await self.transaction.step(f"draw {n}", draw, self.pace_s)
            if self.drawn < n:
                self.drawn = n
                await self.transaction.send_update(self.public(drawn=n, token=token))
            if self.said_once < n:
                self.said_once = n
                await self.transaction.send_update({"once": n}, once=f"once {n}")
            stumble()
            self.ticks = n
            await self.transaction.send_update(self.public(confirmed=n, token=token))
            if n % 10 == 0:
                await self.transaction.restart()


class Asker(Ledger):
    """Takes its messages in `run`, one after another; it has no handler for them."""

    async def run(self) -> None:
        while True:
            message = await self.transaction.wait_message(f"message {self.ticks}", timeout_s=self.pace_s)
            self.ticks += 1
            if message is None:
                await self.transaction.send_update(self.public(tick=self.ticks))
            else:
                await self._take(message.connection, message.data)
            if self.ticks % 20 == 0:
                await self.transaction.restart()

    async def _take(self, connection: Connection, data: Any) -> None:
        self.handled.setdefault(data["client"], []).append(data["n"])
        if data["do"] == "finish":
            await self.transaction.finish(result=self.handled)
        await self.transaction.send_update(self.public(client=data["client"], n=data["n"]))


class Parent(Room):
    """Starts children, one after another, and takes their results."""

    async def run(self) -> None:
        while True:
            n = self.ticks + 1
            child = await self.transaction.start(f"child {n}", Child(n=n, pace_s=self.pace_s / 4))
            value = await child.result()
            if value != n * n:
                await self.transaction.fail(f"child {n} gave {value}")
            self.ticks = n
            await self.transaction.send_update(self.public(child=n, value=value))
            if n % 10 == 0:
                await self.transaction.restart()


class Child(State, retries=1_000_000, backoff_s=0.05):
    """Counts to three and returns the square of what it was given."""

    n: int
    pace_s: float = 0.05
    ticks: int = 0

    async def run(self) -> int:
        while self.ticks < 3:
            await asyncio.sleep(self.pace_s)
            self.ticks += 1
            await self.transaction.send_update({"i": self.ticks})
        return self.n * self.n


class Job(State, retries=1_000_000, backoff_s=0.05):
    """A short job, from a start to a result."""

    size: int
    pace_s: float = 0.05
    said: int = 0

    async def run(self) -> dict[str, int]:
        while self.said < self.size:
            await self.transaction.step(f"pause {self.said}", asyncio.sleep, self.pace_s)
            stumble()
            self.said += 1
            await self.transaction.send_update({"i": self.said})
        return {"size": self.said}

    def view(self) -> dict[str, Any]:
        return {"i": self.said, "once": 0, "p": {}}


class Endless(Job):
    """A job that has to be cancelled."""

    async def run(self) -> dict[str, int]:
        while True:
            await asyncio.sleep(self.pace_s)
            self.said += 1
            await self.transaction.send_update({"i": self.said})


async def draw(pace_s: float) -> str:
    """Something that no second call gives."""
    await asyncio.sleep(pace_s)
    return secrets.token_hex(8)
