"""Short transactions that are started all the time: each is followed to its end, some are cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orbit.verify.fates import Task
from orbit.verify.follower import Follower
from orbit.verify.people import Person, set_within
from orbit.verify.trace import Message
from orbit.verify.web import NoAnswer, Web

EVERY_S = (0.3, 1.2)
START_S = 30.0
CANCELLED = 0.2
"""How many are of the kind that has to be cancelled."""


@dataclass(slots=True)
class Begun:
    """One that was started, and who follows it. `cancel`: whether it has to be cancelled."""

    tx: str
    follower: Follower
    wanted: tuple[str, Any]
    cancel: bool

    def task(self) -> Task:
        """How it ended, as its follower saw it."""
        end = self.follower.end
        ended = None if end is None else (end["status"], end.get("result"))
        name, gone = self.follower.client.trace.name, self.follower.gave_up
        return Task(name, self.tx, self.wanted, ended, gone, has_crashed(end))


def has_crashed(end: Message | None) -> bool:
    """Whether an end says that it lost its workers again and again."""
    return end is not None and (end.get("error") or {}).get("type") == "Crashed"


class Jobs:
    """All that were started. `failures`: what couldn't be started or cancelled in all its time."""

    def __init__(self, web: Web, people: Sequence[Person], rng: random.Random, ids: str) -> None:
        self.begun: list[Begun] = []
        self.failures: list[str] = []
        self._web, self._people, self._rng, self._ids = web, people, rng, ids
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Start one now and then until told to stop; returns once all of them are started."""
        try:
            while not await set_within(stop, self._rng.uniform(*EVERY_S)):
                self._count += 1
                task = asyncio.create_task(self._begin(f"{self._ids}-job-{self._count:04d}-{'0' * 8}"))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _begin(self, tx: str) -> None:
        size, pace_s = self._rng.randint(3, 20), self._rng.uniform(0.02, 0.2)
        person, cancel = self._rng.choice(self._people), self._rng.random() < CANCELLED
        cancel_after_s = self._rng.uniform(0.2, 2.0)
        try:
            fields = {"size": size, "pace_s": pace_s}
            await self._web.start(tx, "Endless" if cancel else "Job", fields, within_s=START_S)
            wanted = ("cancelled", None) if cancel else ("finished", {"size": size})
            self.begun.append(Begun(tx, person.client.follow(tx), wanted, cancel))
            if cancel:
                await asyncio.sleep(cancel_after_s)
                await self._web.cancel(tx, within_s=START_S)
        except NoAnswer as error:
            self.failures.append(str(error))

    async def cancel_again(self, *, also_ended: bool) -> None:
        """A cancel may have been lost with the newest writes of Redis, or the end that was seen: ask once more."""
        for one in self.begun:
            if one.cancel and one.follower.gave_up is None and (also_ended or one.follower.end is None):
                with suppress(NoAnswer):
                    await self._web.cancel(one.tx, within_s=START_S)
