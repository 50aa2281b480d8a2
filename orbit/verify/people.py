"""The clients of the workload: they send, hop between edges, stay away and come back, at random but by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orbit.verify.client import WireClient
from orbit.verify.fates import Said
from orbit.verify.follower import Follower

DOINGS = ("count",) * 6 + ("private", "private", "raise", "reject")
QUIET_S = (0.2, 1.2)
"""From one deed of a client to the next."""
AWAY_S = (0.5, 4.0)
HOPS, LEAVES = 0.12, 0.05
"""Of all that a client does, how much is leaving its edge for another one, and staying away for a while."""


@dataclass(frozen=True, slots=True)
class Place:
    """A long transaction of the workload.

    Attributes:
        simple: Its State takes messages that ask for nothing but to be counted.
        ticks: It sends updates by itself, without long pauses.
        keeps: How many updates its log keeps, 0 for all.
    """

    tx: str
    state: str
    simple: bool = False
    ticks: bool = False
    keeps: int = 0


class Person:
    """One client with what it asked for, by its own numbers, in each of its transactions."""

    def __init__(
        self, client: WireClient, places: Sequence[Place], on_away: Callable[[str], None] = lambda name: None
    ) -> None:
        """on_away: told its name whenever it stops following for a while of its own will."""
        self.client = client
        self._on_away = on_away
        self.places = {place.tx: place for place in places}
        self.asked: dict[str, dict[int, str]] = {place.tx: {} for place in places}
        for place in places:
            client.follow(place.tx)

    @property
    def name(self) -> str:
        return self.client.trace.name

    @property
    def away(self) -> bool:
        """It left of its own will, or doesn't read."""
        return self.client.now() < max(self.client.away_until, self.client.stalled_until)

    def followers(self) -> list[Follower]:
        """Those of the long transactions."""
        return [self.client.followers[tx] for tx in self.places]

    def say(self, tx: str, do: str) -> None:
        """Send a message with the next number."""
        asked = self.asked[tx]
        n = len(asked) + 1
        asked[n] = do
        self.client.followers[tx].send({"client": self.name, "n": n, "do": do})

    def leave(self, seconds: float) -> None:
        """Be off the network for so long."""
        self._on_away(self.name)
        self.client.leave(seconds)

    def stall(self, seconds: float) -> None:
        """Read nothing for so long."""
        self._on_away(self.name)
        self.client.stall(seconds)

    async def live(self, stop: asyncio.Event) -> None:
        """Do something now and then, until told to stop."""
        rng = self.client.rng
        while not await set_within(stop, rng.uniform(*QUIET_S)):
            self._do(rng)

    def _do(self, rng: random.Random) -> None:
        self.forgive()
        what = rng.random()
        if what < HOPS:
            self.client.hop(rude=rng.random() < 0.5)
        elif what < HOPS + LEAVES:
            self.leave(rng.uniform(*AWAY_S))
        else:
            place = rng.choice(list(self.places.values()))
            self.say(place.tx, "count" if place.simple else rng.choice(DOINGS))

    def forgive(self) -> None:
        """Who hops so often may be replaced by attaches of its own that come late; the person tries again."""
        for follower in self.client.followers.values():
            follower.forgive()

    def said(self, tx: str) -> Said:
        """What became of its messages, as far as it was told."""
        follower = self.client.followers[tx]
        return Said(
            client=self.name,
            tx=tx,
            asked=self.asked[tx],
            stored=frozenset(numbers(follower.stored.values())),
            lost=frozenset(numbers(follower.lost)),
            refused=dict(
                [*((n, code) for data, code in follower.unsendable for n in numbers([data])),
                 *((n, code) for data, code in follower.refusals for n in numbers([data]))]
            ),
            may_miss=bool(follower.resets),
        )  # fmt: skip


def numbers(messages: Any) -> list[int]:
    """The numbers in what a person said."""
    return [data["n"] for data in messages if isinstance(data, dict)]


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so long."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
