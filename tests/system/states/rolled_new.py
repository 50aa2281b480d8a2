"""The new version of the States of `rolled_old.py`."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ConfigDict

from orbit import STOP, Connection, State


class Looping(State, version=2, retries=0):
    model_config = ConfigDict(extra="forbid")
    pace_s: float
    turns: int = 0
    over: bool = False

    async def run(self) -> int:
        while not self.over:
            await self.transaction.step(f"pause {self.turns}", asyncio.sleep, self.pace_s)
            self.turns += 1
            await self.transaction.send_update([2, self.turns])
        return self.turns

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.over = True

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        turns = fields.pop("done")
        return {**fields, "turns": turns}


class Listed(State, version=2, retries=0):
    model_config = ConfigDict(extra="forbid")
    pace_s: float
    turns: int = 0
    over: bool = False

    async def run(self) -> int:
        await self.transaction.each("turns", range(1_000_000), self.turn)
        return self.turns

    async def turn(self, turn: int) -> Any:
        await self.transaction.step("pause", asyncio.sleep, self.pace_s)
        self.turns += 1
        await self.transaction.send_update([2, self.turns])
        return STOP if self.over else None

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.over = True

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        turns = fields.pop("done")
        return {**fields, "turns": turns}
