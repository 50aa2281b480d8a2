"""One State that uses most of what there is and whose log is the same each time."""

from __future__ import annotations

import asyncio
from typing import Any

from orbit import STOP, Connection, State


def measure(word: str) -> int:
    """A plain step, in a thread."""
    return len(word)


class Recipe(State, stays_open=True):
    words: list[str]
    lengths: dict[str, int] = {}  # noqa: RUF012 - a pydantic field: each instance has its own
    heard: int = 0

    async def run(self) -> None:
        await self.transaction.send_update("begun", once="begun")
        await self.transaction.each("words", self.words, self.word)
        both = await self.transaction.gather(
            self.transaction.step("a", asyncio.sleep, 0, b"\x00bytes"), self.transaction.step("b", measure, "four")
        )
        await self.transaction.send_update({"gathered": both}, {"big": 2**63 - 1, "$odd": {"$x": None}})
        await self.transaction.send_update("run is over")

    async def word(self, word: str) -> Any:
        length = await self.transaction.step("measure", measure, word)
        if word == "stop":
            return STOP
        self.lengths[word] = length
        await self.transaction.send_update({word: length})
        return None

    def on_update(self, connection: Connection, data: Any) -> None:
        self.heard += 1
        if data == "oops":
            raise ValueError("said so")
        if data == "mine":
            connection.sync.send({"yours": self.heard})
        if data == "end":
            self.transaction.sync.finish(result={"lengths": self.lengths, "heard": self.heard})
        self.transaction.sync.send_update({"heard": self.heard, "data": data})
