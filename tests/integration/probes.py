"""Probes: what a State's code does, as a test sees and steers it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any, ClassVar

from orbit import State


class Probe:
    """One test's view into the State that it runs."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.go = asyncio.Event()
        self.there = asyncio.Event()
        self.begun = asyncio.Event()
        self.answered = asyncio.Event()
        self.errors: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self.limit: asyncio.Timeout
        self.loop = asyncio.get_running_loop()
        self.hold = threading.Event()

    async def stop_here(self) -> None:
        """Say that the code has come here, and wait until it may go on."""
        self.there.set()
        await self.go.wait()


    def expire(self) -> None:
        """Let the `asyncio.timeout` that the State is in expire now."""
        self.limit.reschedule(asyncio.get_running_loop().time())


class Probed(State, stays_open=True):
    """Base of the tests' States; the `probe` fixture makes the probe anew."""

    probe: ClassVar[Probe]


async def nothing() -> None:
    return None


async def forever() -> None:
    Probed.probe.begun.set()
    await asyncio.get_running_loop().create_future()


async def steps_of_the_loop() -> None:
    """Give everything that is ready its chance, some times over."""
    for _ in range(20):
        await asyncio.sleep(0)
