"""A fleet on a cluster of three primaries and three replicas, and on a primary that three Sentinels watch.

Each goes through the same day: a replica that was cut off is promoted, so that Redis loses what it didn't get; slots
move; a primary is killed. Whoever saw what is gone is told so by one `reset`, nobody else is, and nothing is missed,
repeated, or handled twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from orbit.config import DEFAULT_PARTITIONS
from orbit.store.embedded import EmbeddedCluster, EmbeddedServer, SentinelTrio
from orbit.store.keys import Keys, slot_of_key
from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.logs import check_complete, check_logs
from tests.support.processes import Stage
from tests.support.programs import PROGRAMS, VALKEY, program
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

KEYS = Keys("orbit", DEFAULT_PARTITIONS)
AT_ONCE_S = 0.05
SILENT_MS = 5_000
"""So long that a busy machine alone makes no server seem dead."""
NEVER_S = 600.0


def slot_of(tx: str) -> int:
    return slot_of_key(KEYS.transaction(tx))  # type: ignore[arg-type]


class Fleet:
    """Two workers, two edges, two clients, and transactions that both follow, of which half say nothing themselves."""

    def __init__(self, stage: Stage, redis: str, seed: int) -> None:
        self.stage, self.redis, self.seed = stage, redis, seed
        self.rng = random.Random(seed)
        self.edges: list[str] = []
        self.clients: list[WireClient] = []
        self.busy: list[Follower] = []
        self.quiet: list[Follower] = []
        self.said = 0
        self._running: list[asyncio.Task[None]] = []

    @property
    def followers(self) -> list[Follower]:
        return [*self.busy, *self.quiet]

    async def start(self, transactions: int) -> None:
        self.edges = [(await self.stage.edge(self.redis)).url for _ in range(2)]
        options = ("--lease-s", "2")
        await asyncio.gather(*(self.stage.worker(STATES / "ledger.py", self.redis, *options) for _ in range(2)))
        seeds = [self.rng.random() for _ in range(2)]
        self.clients = [WireClient(self.edges, name=f"client {one}", rng=random.Random(one)) for one in seeds]
        self._running = [asyncio.create_task(client.run()) for client in self.clients]
        for n in range(transactions):
            for pace_s, followers in ((AT_ONCE_S, self.busy), (NEVER_S, self.quiet)):
                state = ("Ledger", "Looping", "Threaded")[n % 3]
                tx = await self.stage.start(self.edges[n % 2], state, pace_s=pace_s)
                followers += [client.follow(tx) for client in self.clients]
        await self.say(self.followers)

    async def say(self, followers: Iterable[Follower], count: int = 2) -> None:
        """Each says so many messages; returns when each is stored, and its answer was seen."""
        asked = list(followers)
        for follower in asked:
            for _ in range(count):
                self.said += 1
                follower.send({"client": follower.client.trace.name, "n": self.said, "do": "count"})
        for follower in asked:
            await follower.until_stored()
            await follower.until(answered)

    async def more(self, followers: Iterable[Follower], count: int = 3) -> None:
        """Return when each has got so many updates more."""
        for follower in followers:
            already = len(follower.entries)
            await follower.until(lambda one, most=already + count: len(one.entries) >= most)  # type: ignore[misc]

    async def end(self) -> None:
        """Let all finish, and wait until every client has seen it."""
        for follower in {follower.tx: follower for follower in self.followers}.values():
            follower.send({"client": follower.client.trace.name, "n": 0, "do": "finish"})
        for follower in self.followers:
            await follower.until(lambda one: one.end is not None)
        for client in self.clients:
            await client.stop()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def judge(self) -> list[str]:
        logs = await read_logs(self.edges[0], [(one.tx, str(one.session)) for one in self.followers])
        found: list[str] = []
        for client in self.clients:
            own = {tx: logs[tx, str(one.session)] for tx, one in client.followers.items()}
            found += map(str, check_trace(client.trace, own, resets={"rewound"}))
        for follower in self.followers:
            name, log = follower.client.trace.name, logs[follower.tx, str(follower.session)]
            found += map(str, check_complete(name, follower.entries, log))
            handled = [one.body["n"] for one in log if one.kind == "update" and one.body.get("client") == name]
            lost = {data["n"] for data in follower.lost}
            twice = [n for n, count in Counter(handled).items() if count > 1]
            missing = {data["n"] for data in follower.stored.values()} - set(handled)
            if twice or missing or lost & set(handled):
                found.append(f"{name} in {follower.tx}: twice {twice}, missing {missing}, lost and handled {lost}")
        for tx in {follower.tx for follower in self.followers}:
            found += map(str, check_logs({session: log for (of, session), log in logs.items() if of == tx}))
        return found

    def resets(self) -> dict[int, int]:
        """How many each has been told."""
        return {id(follower): len(follower.resets) for follower in self.followers}


def answered(follower: Follower) -> bool:
    """All that it said and that is stored has been handled."""
    handled = {body["n"] for body in follower.updates if body.get("client") == follower.client.trace.name}
    return {data["n"] for data in follower.stored.values()} <= handled or bool(follower.resets)


async def rewind(
    fleet: Fleet, group: EmbeddedCluster | SentinelTrio, replica: EmbeddedServer, here: Callable[[str], bool]
) -> str:
    """Cut a replica off, go on, promote it. `here`: whether its primary holds a transaction."""
    before = fleet.resets()
    await group.synced()
    await group.cut_off(replica)
    struck = [one for one in fleet.busy if here(one.tx)]
    spared = [one for one in fleet.followers if one not in struck]
    assert struck, f"ORBIT_SEED={fleet.seed}: no transaction lies there"
    await fleet.more(struck)
    await fleet.say(struck)
    await group.promote(replica)
    for follower in struck:
        await follower.until(lambda one: len(one.resets) > before[id(one)])
    await fleet.say(fleet.followers)
    await fleet.more(fleet.busy)
    told = Counter(len(one.resets) - before[id(one)] for one in struck)
    assert set(told) == {1}, f"ORBIT_SEED={fleet.seed}: {told}"
    assert {reset["reason"] for one in struck for reset in one.resets} == {"rewound"}
    assert all(one.lost for one in struck), "messages that were stored and are gone are told as lost"
    assert not [one.tx for one in spared if len(one.resets) > before[id(one)]]
    lost = sum(len(one.lost) for one in struck)
    return f"{len(struck)} were told of a rewind and {len(spared)} not, {lost} messages were lost"


async def kill(fleet: Fleet, primary: EmbeddedServer, replaced: Callable[[], object]) -> None:
    """A primary dies; the others go on without it."""
    primary.kill()
    asking = asyncio.ensure_future(fleet.say(fleet.followers))
    await replaced()  # type: ignore[misc]
    await asking
    await fleet.more(fleet.busy)


@pytest.mark.parametrize("name", PROGRAMS)
async def test_on_a_cluster(stage: Stage, seed: int, measured: Callable[[str], None], name: str) -> None:
    async with EmbeddedCluster(program=program(name), node_timeout_ms=SILENT_MS) as cluster, asyncio.timeout(SCENE_S):
        fleet = Fleet(stage, cluster.url, seed)
        await fleet.start(transactions=8)
        holders = {one.tx: await cluster.primary_of(slot_of(one.tx)) for one in fleet.followers}
        struck = holders[fleet.busy[0].tx]
        (replica,) = await cluster.replicas_of(struck)
        measured(await rewind(fleet, cluster, replica, lambda tx: holders[tx] is struck))
        slots = await reshard(fleet, cluster, name)
        victim = next(one for one in await cluster.primaries() if one not in (struck, replica))
        await kill(fleet, victim, cluster.whole)
        await victim.start()
        await fleet.end()
        found = await fleet.judge()
    assert not found, f"ORBIT_SEED={seed}\n" + "\n".join(found[:40])
    measured(f"{slots} slots moved and a primary killed, {fleet.said} messages")


async def reshard(fleet: Fleet, cluster: EmbeddedCluster, name: str) -> int:
    """Move the slots of half of the transactions while all go on."""
    slots = sorted({slot_of(one.tx) for one in fleet.followers})[::2]
    talking = asyncio.ensure_future(fleet.say(fleet.followers, count=5))
    before = fleet.resets()
    for n, slot in enumerate(slots):
        source = await cluster.primary_of(slot)
        target = fleet.rng.choice([one for one in await cluster.primaries() if one is not source])
        if name == VALKEY and n % 2:
            await cluster.move_at_once(slot, slot, source, target)
        else:
            await cluster.begin_move(slot, source, target)
            while await cluster.move_keys(slot, source, target, most=3):
                pass
            await cluster.end_move(slot, source, target)
    await talking
    await fleet.more(fleet.busy)
    assert fleet.resets() == before, f"ORBIT_SEED={fleet.seed}: a move loses nothing"
    await cluster.whole()
    return len(slots)


@pytest.mark.parametrize("name", PROGRAMS)
async def test_under_sentinels(stage: Stage, seed: int, measured: Callable[[str], None], name: str) -> None:
    async with SentinelTrio(program=program(name), down_after_ms=SILENT_MS) as trio, asyncio.timeout(SCENE_S):
        fleet = Fleet(stage, trio.url, seed)
        await fleet.start(transactions=3)
        measured(await rewind(fleet, trio, trio.servers[1], lambda tx: True))
        primary = await trio.primary()
        await kill(fleet, primary, lambda: trio.replaced(primary))
        await fleet.end()
        found = await fleet.judge()
    assert not found, f"ORBIT_SEED={seed}\n" + "\n".join(found[:40])
    measured(f"a primary killed, {fleet.said} messages")
