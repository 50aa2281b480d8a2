"""What happens in one run: transactions, clients that hop and send, and faults, all drawn from the seed."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from orbit.protocol.ids import TxId
from orbit.state import State
from orbit.store.durability import MEMORY, Durability
from orbit.store.starts import StartOptions, by_class
from orbit.store.store import Store
from orbit.store.types import Work
from orbit.verify.client import WireClient
from orbit.verify.follower import Follower
from tests.simulation.states import STATES, forget
from tests.simulation.verdict import judge
from tests.simulation.weather import Weather
from tests.simulation.world import World, run_world

REST_S = 90.0
"""So long after the last fault everything must have come to rest."""
ANSWERS_S = 2.0
"""So long what is still on its way may take, once all ends are seen."""
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

    def reconsider(self, follower: Follower) -> None:
        """Just attached: what isn't stored can't be any more, so other messages may be sent in its stead."""
        for item in follower.queue:
            if item.data["do"] != "finish":
                tag = f"{follower.client.trace.name}/{len(self.asked)}"
                self.asked[tag] = item.data["do"]
                item.data = {"tag": tag, "do": item.data["do"]}

    def forgive(self, follower: Follower) -> None:
        """A client that hops so often may be replaced by its own late attaches: the person at it tries again."""
        if follower.gave_up == "replaced":
            follower.gave_up = None
            follower.replaced = 0
            follower._attach_again()


class Fickle(Follower):
    """A follower that thinks again: what isn't stored after an attach can't be any more, and it says something else."""

    __slots__ = ("cast",)
    cast: Cast

    def _on_last_mid(self, last_mid: int) -> None:
        super()._on_last_mid(last_mid)
        if not any(item.flying for item in self.queue):
            self.cast.reconsider(self)


async def play(world: World, faults: tuple[str, ...]) -> None:
    """One run, judged."""
    rng = world.rng
    cast = Cast(world, random.Random(f"cast {world.seed}"))
    world.durability = rng.choice((MEMORY, MEMORY, MEMORY, Durability("fsync"), Durability("replicated", 1)))
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
    await Weather(world, random.Random(f"weather {world.seed}"), faults).blow(until_s)
    await asyncio.wait(lives)
    observer = world.process("observer")
    try:
        async with asyncio.timeout(REST_S):
            await observer.spawn(_all_answered(world, cast))
            await _settle(cast)
    except TimeoutError:
        for follower in cast.followers:
            if follower.end is None and follower.gave_up is None:
                world.finding(f"never came to rest: {_shown(follower)}")
    await asyncio.sleep(ANSWERS_S)
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
    kind = cast.rng.choice((Follower, Fickle))
    for tx in cast.ids:
        follower = client.followers[tx] = kind(client, tx, secrets.token_urlsafe(24))
        cast.followers.append(follower)
        if isinstance(follower, Fickle):
            follower.cast = cast
    world.process(f"client {n}").spawn(client.run())


async def _live(cast: Cast, client: WireClient, until_s: float) -> None:
    """A person at a client: sends and hops at random."""
    rng, loop = client.rng, cast.world.loop
    while loop.time() < until_s:
        await asyncio.sleep(rng.expovariate(1 / 0.4))
        follower = rng.choice(list(client.followers.values()))
        if rng.random() < 0.7:
            if follower.gave_up is None and follower.end is None:
                for _ in range(rng.choice((1, 1, 1, 3))):
                    cast.say(follower, rng.choice(DOINGS))
            if rng.random() < 0.8:
                continue
            await asyncio.sleep(0.002)
        for one in client.followers.values():
            cast.forgive(one)
        client.hop(rude=rng.random() < 0.5)


async def _all_answered(world: World, cast: Cast) -> None:
    """All that was said is stored and answered, though nobody says anything any more that would wake its State."""
    for follower in cast.followers:
        cast.forgive(follower)
        await _until(follower, lambda f: not f.queue or f.end is not None)
    store = await world.open_store()
    for tx in cast.ids:
        while await _unanswered(store, tx):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.5)
    await store.close()


async def _unanswered(store: Store, tx: str) -> bool:
    work = await store.read_work(TxId(tx), None, 1)
    return isinstance(work, Work) and bool(work.incoming)


async def _settle(cast: Cast) -> None:
    """All that was said is stored, each transaction is finished, and its end is seen."""
    for tx in cast.ids:
        followers = [f for f in cast.followers if f.tx == tx]
        going = [f for f in followers if f.gave_up is None and f.end is None]
        if going:
            cast.say(going[0], "finish")
        for follower in followers:
            await _until(follower, _ended_or_lost)
            while follower.gave_up is None and follower.end is None:  # Redis lost it, just before all went well again
                follower.lost.clear()
                cast.say(follower, "finish")
                await _until(follower, _ended_or_lost)


def _ended_or_lost(follower: Follower) -> bool:
    return follower.end is not None or any(data["do"] == "finish" for data in follower.lost)


async def _until(follower: Follower, holds: Callable[[Follower], bool]) -> None:
    while not holds(follower) and follower.gave_up is None:
        await follower.client.changed()


def run_seed(seed: int, faults: tuple[str, ...] = ()) -> World:
    """The run of a seed. `faults`: with these kinds alone, whatever the seed would have drawn."""
    forget()
    return run_world(seed, STATES, lambda world: play(world, faults), partitions=2)

