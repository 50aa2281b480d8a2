"""The old version of two States, for a change that rolls through a fleet; the new one is `rolled_new.py`.

Each update tells the version of the code that sent it. A field has another name in the new version, so neither can read
the other's snapshots; the new one migrates.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ConfigDict

from orbit import STOP, Connection, State


class Looping(State, version=1, retries=0):
    model_config = ConfigDict(extra="forbid")
    pace_s: float
    done: int = 0
    over: bool = False

    async def run(self) -> int:
        while not self.over:
            await self.transaction.step(f"pause {self.done}", asyncio.sleep, self.pace_s)
            self.done += 1
            await self.transaction.send_update([1, self.done])
        return self.done

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.over = True


class Listed(State, version=1, retries=0):
    model_config = ConfigDict(extra="forbid")
    pace_s: float
    done: int = 0
    over: bool = False

    async def run(self) -> int:
        await self.transaction.each("turns", range(1_000_000), self.turn)
        return self.done

    async def turn(self, turn: int) -> Any:
        await self.transaction.step("pause", asyncio.sleep, self.pace_s)
        self.done += 1
        await self.transaction.send_update([1, self.done])
        return STOP if self.over else None

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.over = True
