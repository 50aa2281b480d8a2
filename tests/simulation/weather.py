"""What goes wrong, and when: often at the worst moment that there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from tests.simulation.world import LEASE_S, World

UNLUCKY = ("cut_before", "cut_after", "cut_after", "silent", "drop_published", "drop_published", "full")
SCRIPTS = (
    "append", "commit", "commit", "claim", "release", "release", "attach", "detach", "renew", "log", "work", "due",
)  # fmt: skip
WORST = (
    ("append", "commit"), ("append", ""), ("commit", "release"), ("commit", ""), ("claim", "commit"),
    ("commit", "append"),
)  # fmt: skip
"""From just before the one to just before the other: what lies between is lost."""


class Weather:
    """Does something bad every now and then; which kinds of bad things there are in this run is drawn, too."""

    def __init__(self, world: World, rng: random.Random, only: tuple[str, ...] = ()) -> None:
        """`only`: these kinds, by the names of the methods, instead of some that are drawn."""
        self.world = world
        self.rng = rng
        kinds = {
            self.kill_worker: 3, self.pause_worker: 4, self.drain_worker: 1, self.kill_edge: 2, self.pause_edge: 1,
            self.drain_edge: 1, self.break_links: 2, self.away: 1, self.fail_over: 4, self.unlucky: 5, self.slow: 2,
            self.hold: 4,
        }  # fmt: skip
        drawn = {kind: weight for kind, weight in kinds.items() if rng.random() < 0.5} or {self.kill_worker: 1}
        named = {kind: weight for kind, weight in (kinds | {self.lose_answered: 4}).items() if kind.__name__ in only}
        self._kinds = named or drawn

    async def blow(self, until_s: float) -> None:
        loop = self.world.loop
        while loop.time() < until_s:
            await asyncio.sleep(self.rng.expovariate(1 / 0.4))
            await self.rng.choices(list(self._kinds), list(self._kinds.values()))[0]()
        self.clear()

    def clear(self) -> None:
        """All that went wrong is mended, but that pub/sub may lose what is said of transactions."""
        world, server = self.world, self.world.server
        for name in ("cut_before", "cut_after", "silent", "full", "drop_published"):
            setattr(server.faults, name, 0.0)
        server.faults.held = ""
        server.faults.drop_live = self.rng.choice((0.0, 0.0, 0.5))
        server.forget_rules()
        world.network.slow = 0.0
        server.away = False
        for process in [*world.workers, *world.edges.values()]:
            process.main.trap(0, lambda: None)
            process.wake()
        for host, edge in tuple(world.edges.items()):
            if edge.dead:
                world.add_edge(host)
        if not self._workers():
            world.add_worker()

    def _note(self, what: str) -> None:
        self.world.server.happened[what] += 1

    def _workers(self) -> list[Any]:
        return [one for one in self.world.workers if not one.dead and not one.over and not one.main.paused]

    def _at_a_bad_moment(self, one: Any, do: Callable[[], object]) -> None:
        """Now, or amid what the process does at one of the next moments."""
        if self.rng.random() < 0.7:
            one.main.trap(self.rng.randrange(1, 60), do)
        else:
            do()

    # ---- processes

    async def kill_worker(self) -> None:
        if alive := self._workers():
            self._note("worker killed")
            one = self.rng.choice(alive)
            self._at_a_bad_moment(one, one.kill)
            await asyncio.sleep(self.rng.choice((0.0, 0.3, 1.0)))
            self.world.add_worker()

    async def pause_worker(self) -> None:
        """Stop it for a while; often until just after another one took over what it held."""
        if alive := self._workers():
            self._note("worker paused")
            one = self.rng.choice(alive)
            self._at_a_bad_moment(one, one.pause if self.rng.random() < 0.8 else one.main.pause)
            loop, longest_s = self.world.loop, self.rng.uniform(0.2, 2.5) * LEASE_S
            if self.rng.random() < 0.6:
                soon_s = self.rng.choice((0.0, 0.001, 0.01))
                self.world.server.after_grant(lambda: loop.call_later(soon_s, one.wake))
                longest_s = 2.5 * LEASE_S
            loop.call_later(longest_s, one.wake)
            if len(alive) == 1:
                self.world.add_worker()

    async def drain_worker(self) -> None:
        if alive := self._workers():
            one = self.rng.choice(alive)
            if one.stop is not None:
                self._note("worker drained")
                one.main.later(0.0, one.stop.set)
                self.world.add_worker()

    async def kill_edge(self) -> None:
        self._note("edge killed")
        host = self.rng.choice(list(self.world.edges))
        self._at_a_bad_moment(self.world.edges[host], self.world.edges[host].kill)
        await asyncio.sleep(self.rng.choice((0.0, 0.1, 0.5)))
        if self.world.edges[host].dead:
            self.world.add_edge(host)

    async def pause_edge(self) -> None:
        self._note("edge paused")
        one = self.rng.choice(list(self.world.edges.values()))
        self._at_a_bad_moment(one, one.pause)
        self.world.loop.call_later(self.rng.uniform(0.1, 5.0), one.wake)

    async def drain_edge(self) -> None:
        self._note("edge drained")
        host = self.rng.choice(list(self.world.edges))
        self.world.edges[host].drain()
        self.world.add_edge(host)

    # ---- Redis

    async def break_links(self) -> None:
        self._note("links broken")
        self.world.server.break_all()

    async def away(self) -> None:
        server = self.world.server
        self._note("away")
        server.away = True
        server.break_all()
        await asyncio.sleep(self.rng.uniform(0.05, 2.0))
        server.away = False

    async def fail_over(self) -> None:
        """Lose the writes of a moment; often of a very short one, that begins and ends just before chosen scripts."""
        server, rng = self.world.server, self.rng
        skew_s = rng.choice((0.0, -0.3, 0.3, rng.uniform(-2, 2)))
        if server.forked:
            return
        if rng.random() < 0.4:
            server.fork()
            await asyncio.sleep(rng.choice((0.002, 0.01, 0.05, 0.2, 0.5)) * rng.uniform(0.5, 1.5))
            server.fail_over(skew_s)
        else:
            first, last, skip = rng.choice(SCRIPTS), rng.choice(("", *SCRIPTS)), rng.choice((0, 0, 1, 3))
            if rng.random() < 0.5:
                first, last = rng.choice(WORST)
                skip = 0

            def fork() -> None:
                server.fork()
                server.before(last, lambda: server.fail_over(skew_s), skip=skip + (last in ("", first)))

            server.before(first, fork)
            await asyncio.sleep(rng.uniform(0.1, 0.7))
            if server.forked and rng.random() < 0.5:
                server.break_all()
            await asyncio.sleep(rng.uniform(0.1, 0.7))
            server.forget_rules()
        if rng.random() < 0.2:
            server.away = True
            await asyncio.sleep(rng.uniform(0.01, 1.0))
            server.away = False

    async def lose_answered(self) -> None:
        """Lose a write whose reply was lost before, so that it was asked for again, over another connection."""
        server, rng = self.world.server, self.rng

        def fork() -> None:
            server.fork()
            server.faults.cut_after = 1.0
            server.before("", lambda: setattr(server.faults, "cut_after", 0.0))

        if not server.forked:
            server.before("commit", fork)
            await asyncio.sleep(rng.uniform(0.3, 1.0))
            server.faults.cut_after = 0.0
            if server.forked:
                server.fail_over(0.0)
            server.forget_rules()

    async def unlucky(self) -> None:
        """For a while, commands and messages meet with bad luck."""
        faults, rng = self.world.server.faults, self.rng
        name = rng.choice(UNLUCKY)
        setattr(faults, name, rng.choice((0.02, 0.1, 0.3)))
        await asyncio.sleep(rng.uniform(0.2, 1.0))
        setattr(faults, name, 0.0)

    async def slow(self) -> None:
        self.world.network.slow = self.rng.choice((0.05, 0.3))
        await asyncio.sleep(self.rng.uniform(0.2, 1.0))
        self.world.network.slow = 0.0

    async def hold(self) -> None:
        """One kind of script is held up on its way."""
        faults, rng = self.world.server.faults, self.rng
        faults.held, faults.held_s = rng.choice(SCRIPTS), rng.choice((0.05, 0.3, 0.9))
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        faults.held = ""
