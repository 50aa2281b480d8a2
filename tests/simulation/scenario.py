"""What happens in one run: transactions, clients that hop and send, and faults, all drawn from the seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orbit.protocol.ids import TxId
from orbit.state import State
from orbit.store.starts import StartOptions, by_class
from orbit.verify.client import WireClient
from orbit.verify.follower import Follower
from tests.simulation.states import STATES
from tests.simulation.verdict import judge
from tests.simulation.world import LEASE_S, World, run_world

REST_S = 90.0
"""So long after the last fault everything must have come to rest."""
UNLUCKY = ("cut_before", "cut_after", "cut_after", "silent", "drop_published", "drop_published", "full")
DOINGS = ("count",) * 6 + ("private", "private", "raise", "reject")
REFUSED = {"raise": "state_error", "reject": "forbidden"}


@dataclass
class Cast:
    """Who takes part."""

    world: World
    rng: random.Random
    ids: dict[str, type[State]] = field(default_factory=dict)
    clients: list[WireClient] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)
    """By tag, what each message asks for."""

    def say(self, follower: Follower, do: str) -> None:
        tag = f"{follower.client.trace.name}/{len(self.asked)}"
        self.asked[tag] = do
        follower.send({"tag": tag, "do": do})

    def forgive(self, follower: Follower) -> None:
        """A client that hops so often may be replaced by its own late attaches: the person at it tries again."""
        if follower.gave_up == "replaced":
            follower.gave_up = None
            follower.replaced = 0
            follower._attach_again()


class Weather:
    """Does something bad every now and then; which kinds of bad things there are in this run is drawn, too."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        kinds = {
            self.kill_worker: 3, self.pause_worker: 3, self.drain_worker: 1, self.kill_edge: 2, self.pause_edge: 1,
            self.drain_edge: 1, self.break_links: 2, self.away: 1, self.fail_over: 4, self.unlucky: 6, self.slow: 2,
        }  # fmt: skip
        self._kinds = {kind: weight for kind, weight in kinds.items() if rng.random() < 0.5} or {self.kill_worker: 1}

    async def blow(self, until_s: float) -> None:
        loop = self.world.loop
        while loop.time() < until_s:
            await asyncio.sleep(self.rng.expovariate(1 / 0.5))
            await self.rng.choices(list(self._kinds), list(self._kinds.values()))[0]()
        await self.clear()

    async def clear(self) -> None:
        """All that went wrong is mended."""
        world, server = self.world, self.world.server
        for name in ("cut_before", "cut_after", "silent", "drop_published", "full"):
            setattr(server.faults, name, 0.0)
        world.network.slow = 0.0
        server.away = False
        for process in [*world.workers, *world.edges.values()]:
            process.wake()

    def _note(self, what: str) -> None:
        self.world.server.happened[what] += 1

    def _live_workers(self) -> list[Any]:
        return [one for one in self.world.workers if not one.dead and not one.over and not one.main.paused]

    async def kill_worker(self) -> None:
        if alive := self._live_workers():
            self._note("worker killed")
            self.rng.choice(alive).kill()
            await asyncio.sleep(self.rng.choice((0.0, 0.3, 1.0)))
            self.world.add_worker()

    async def pause_worker(self) -> None:
        if alive := self._live_workers():
            self._note("worker paused")
            one = self.rng.choice(alive)
            one.pause()
            self.world.loop.call_later(self.rng.uniform(0.2, 2.5) * LEASE_S, one.wake)

    async def drain_worker(self) -> None:
        if alive := self._live_workers():
            one = self.rng.choice(alive)
            if one.stop is not None:
                self._note("worker drained")
                one.main.later(0.0, one.stop.set)
                self.world.add_worker()

    async def kill_edge(self) -> None:
        self._note("edge killed")
        host = self.rng.choice(list(self.world.edges))
        self.world.edges[host].kill()
        await asyncio.sleep(self.rng.choice((0.0, 0.5)))
        self.world.add_edge(host)

    async def pause_edge(self) -> None:
        self._note("edge paused")
        one = self.rng.choice(list(self.world.edges.values()))
        one.pause()
        self.world.loop.call_later(self.rng.uniform(0.1, 5.0), one.wake)

    async def drain_edge(self) -> None:
        self._note("edge drained")
        host = self.rng.choice(list(self.world.edges))
        self.world.edges[host].drain()
        self.world.add_edge(host)

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
        """Lose the writes of a moment; often of a very short one."""
        server, rng = self.world.server, self.rng
        server.fork()
        await asyncio.sleep(rng.choice((0.002, 0.01, 0.05, 0.2, 0.5)) * rng.uniform(0.5, 1.5))
        server.fail_over(rng.choice((0.0, -0.3, 0.3, rng.uniform(-2, 2))))
        if rng.random() < 0.3:
            server.away = True
            await asyncio.sleep(rng.uniform(0.01, 1.0))
            server.away = False

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


async def play(world: World) -> None:
    """One run, judged."""
    rng = world.rng
    cast = Cast(world, random.Random(f"cast {world.seed}"))
    for _ in range(rng.choice((1, 2, 2, 3))):
        world.add_worker()
    hosts = [f"edge-{n}" for n in range(rng.choice((1, 2)))]
    for host in hosts:
        world.add_edge(host)
    driver = world.process("driver")
    await driver.spawn(_start(world, cast))
    for n in range(rng.choice((1, 2, 3))):
        _add_client(world, cast, hosts, n)
    chaos_s = rng.uniform(2.0, 5.0)
    until_s = world.loop.time() + chaos_s
    lives = [world.process(f"person {n}").spawn(_live(cast, client, until_s)) for n, client in enumerate(cast.clients)]
    await Weather(world, random.Random(f"weather {world.seed}")).blow(until_s)
    await asyncio.wait(lives)
    if not any(not one.dead and not one.over for one in world.workers):
        world.add_worker()
    try:
        async with asyncio.timeout(REST_S):
            await _settle(cast)
    except TimeoutError:
        for follower in cast.followers:
            if follower.end is None and follower.gave_up is None:
                world.finding(f"never came to rest: {_shown(follower)}")
    await judge(cast, await world.process("judge").spawn(world.open_store()))


def _shown(f: Follower) -> str:
    return (
        f"{f.client.trace.name} in {f.tx}: attached {f.attached}, asked {f.asked}, at {f.cursor}, "
        f"queue {f.queue}, status {f.status}"
    )


async def _start(world: World, cast: Cast) -> None:
    store = await world.open_store()
    for n in range(world.rng.choice((1, 1, 2))):
        cls = world.rng.choice(STATES)
        tx = TxId(f"transaction-{n}-{world.rng.getrandbits(32):08x}")
        await store.start(by_class(cls, {"pace_s": 0.1}, tx, StartOptions()))
        cast.ids[tx] = cls
    await store.close()


def _add_client(world: World, cast: Cast, hosts: list[str], n: int) -> None:
    client = WireClient(
        [f"http://{host}" for host in hosts], codec=cast.rng.choice(("json", "msgpack")), name=f"client-{n}",
        rng=random.Random(f"client {n} {world.seed}"),
    )  # fmt: skip
    cast.clients.append(client)
    cast.followers += [client.follow(tx) for tx in cast.ids]
    world.process(f"client {n}").spawn(client.run())


async def _live(cast: Cast, client: WireClient, until_s: float) -> None:
    """A person at a client: sends and hops at random."""
    rng, loop = client.rng, cast.world.loop
    while loop.time() < until_s:
        await asyncio.sleep(rng.expovariate(1 / 0.4))
        follower = rng.choice(list(client.followers.values()))
        if rng.random() < 0.7:
            if follower.gave_up is None and follower.end is None:
                cast.say(follower, rng.choice(DOINGS))
            continue
        for one in client.followers.values():
            cast.forgive(one)
        client.hop(rude=rng.random() < 0.5)


async def _settle(cast: Cast) -> None:
    """All that was said is stored, each transaction is finished, and its end is seen."""
    for tx in cast.ids:
        followers = [f for f in cast.followers if f.tx == tx]
        for follower in followers:
            cast.forgive(follower)
            await _until(follower, lambda f: not f.queue or f.end is not None)
        going = [f for f in followers if f.gave_up is None and f.end is None]
        if going:
            cast.say(going[0], "finish")
        for follower in followers:
            await _until(follower, lambda f: f.end is not None)


async def _until(follower: Follower, holds: Callable[[Follower], bool]) -> None:
    while not holds(follower) and follower.gave_up is None:
        await follower.client.changed()


def run_seed(seed: int) -> World:
    """The run of a seed."""
    return run_world(seed, STATES, play, partitions=2)

