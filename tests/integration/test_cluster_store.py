"""The store on a cluster while slots move and primaries change.

A slot that is moved key by key is at two servers for a while. What must hold at every moment of it: no verb says that
something isn't there, none is done by half, and each is done as soon as the slot is whole again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from orbit.errors import OutcomeUnknown, Unavailable
from orbit.protocol.cursors import START
from orbit.protocol.entries import LogPage
from orbit.protocol.ids import PublicName, TxId
from orbit.store import types as t
from orbit.store.durability import Durability
from orbit.store.embedded import EmbeddedCluster, EmbeddedServer
from orbit.store.keys import slot_of_key
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.store.topology import Topology
from tests.support.programs import PROGRAMS, VALKEY, program
from tests.support.waiting import PATIENCE_S, soon

TX = TxId("transaction-00000001")
ANN = PublicName("ann-public-name-000000")
SPEC = t.Spec("default", "Demo", 1)
NODE_TIMEOUT_MS = 15_000
"""A node that is only slow isn't taken for dead."""


@pytest.fixture(scope="module", params=PROGRAMS)
def cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    made = EmbeddedCluster(
        node_timeout_ms=NODE_TIMEOUT_MS, program=program(request.param), config={"appendonly": "no"}
    )
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture
def settings() -> t.StoreSettings:
    return t.StoreSettings(namespace=f"test-{uuid.uuid4().hex}", partitions=8, timeout_s=20.0)


@pytest.fixture
async def store(cluster: EmbeddedCluster, settings: t.StoreSettings) -> AsyncIterator[Store]:
    store = await Store.open(cluster.url, settings)
    yield store
    await store.close()


def new(tx: TxId = TX) -> t.NewTransaction:
    return t.NewTransaction(tx, "Demo", 1, "default", b"{}", "digest", True, 100, 60.0)


async def claimed(store: Store, tx: TxId = TX) -> t.Grant:
    assert await store.start(new(tx)) == t.Started(tx)
    (grant,) = await store.claim(store.partition_of(tx), "w1", [SPEC], 1, 60_000, uuid.uuid4().hex)
    return grant


async def insist(store: Store, commit: t.Commit) -> t.CommitAnswer:
    """Commit, again and again until it is answered."""
    answers: list[t.CommitAnswer] = []

    async def answered() -> bool:
        try:
            answers.append(await store.commit(commit))
        except (Unavailable, OutcomeUnknown):
            return False
        return True

    await soon(answered)
    return answers[0]


class Move:
    """A slot of one partition on its way from one server to another."""

    def __init__(self, cluster: EmbeddedCluster, slot: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        self.cluster, self.slot, self.source, self.target = cluster, slot, source, target

    @classmethod
    async def of(cls, cluster: EmbeddedCluster, key: str) -> Move:
        slot = slot_of_key(key)
        source = await cluster.primary_of(slot)
        target = next(one for one in await cluster.primaries() if one is not source)
        move = cls(cluster, slot, source, target)
        await cluster.begin_move(slot, source, target)
        return move

    async def keys(self) -> list[bytes]:
        found: list[bytes] = await self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, 1_000)
        return sorted(found)

    async def some(self, *keys: bytes) -> None:
        await self.source.command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5_000, "KEYS", *keys)

    async def all(self) -> None:
        assert await self.cluster.move_keys(self.slot, self.source, self.target) == 0

    async def end(self) -> None:
        await self.cluster.end_move(self.slot, self.source, self.target)


async def redirected(server: EmbeddedServer) -> int:
    """How often it has said TRYAGAIN."""
    lines = await server.info("errorstats")
    return int(lines.get("errorstat_TRYAGAIN", "count=0").partition("=")[2])


async def tried(*servers: EmbeddedServer, before: int, count: int) -> None:
    """Return when these servers have put off so many commands more."""

    async def all_of_them() -> bool:
        return sum([await redirected(one) for one in servers]) >= before + count

    await soon(all_of_them)


# ---- a slot that moves


@pytest.mark.parametrize("moved", ["nothing", "the transaction", "all but the transaction", "all"])
async def test_while_a_slot_is_at_two_servers_its_verbs_wait(
    cluster: EmbeddedCluster, store: Store, moved: str
) -> None:
    grant = await claimed(store)
    await store.append(TX, t.NewMessage(b"data", ANN, 1))
    move = await Move.of(cluster, store.keys.transaction(TX))
    keys = await move.keys()
    meta = store.keys.transaction(TX).encode()
    assert {meta, meta + b":snap", meta + b":inbox"} < set(keys)
    choose = {
        "nothing": [], "the transaction": [meta], "all but the transaction": [key for key in keys if key != meta],
        "all": keys,
    }  # fmt: skip
    if choose[moved]:
        await move.some(*choose[moved])
    before = await redirected(move.source) + await redirected(move.target)
    verbs = (
        store.commit(t.Commit(TX, grant.epoch, 0, entries=(t.NewUpdate(b"u"),))),
        store.append(TX, t.NewMessage(b"data", ANN, 2)),
        store.cancel(TX, "why"),
        store.load(TX, grant.epoch),
        store.read_log(TX, START, 10),
        store.start(new()),
        store.renew(store.partition_of(TX), "w1", [t.Held(TX, grant.epoch, 0)], 60_000),
    )
    doing = [asyncio.ensure_future(verb) for verb in verbs]
    await tried(move.source, move.target, before=before, count=len(doing))
    assert not any(one.done() for one in doing)
    seen = await store.get(TX)
    assert seen is not None
    assert seen.status == "running", "a plain read of one key is answered by the server that has it"
    await move.all()
    await move.end()
    done, appended, cancelled, loaded, page, started, renewed = await asyncio.gather(*doing)
    assert isinstance(done, t.Done)
    assert appended == t.Stored(False, 2)
    assert isinstance(cancelled, t.CancelSet)
    assert isinstance(loaded, t.Loaded)
    assert isinstance(page, LogPage)
    assert isinstance(started, t.Existed)
    assert not renewed.lost


@pytest.mark.parametrize("moved", ["nothing", "all"])
async def test_what_waits_too_long_is_certainly_not_done(
    cluster: EmbeddedCluster, store: Store, settings: t.StoreSettings, moved: str
) -> None:
    grant = await claimed(store)
    hasty = await Store.open(cluster.url, t.StoreSettings(namespace=settings.namespace, timeout_s=3.0))
    move = await Move.of(cluster, store.keys.transaction(TX))
    if moved == "all":
        await move.all()
    with pytest.raises(Unavailable, match=r"TRYAGAIN|ASK"):
        await hasty.commit(t.Commit(TX, grant.epoch, 0))
    await move.all()
    await move.end()
    assert isinstance(await store.commit(t.Commit(TX, grant.epoch, 0)), t.Done), "and not `repeated`"
    await hasty.close()


async def test_a_new_one_is_started_once_the_slot_is_whole(cluster: EmbeddedCluster, store: Store) -> None:
    """Nothing of it is anywhere: the importing server would take it, beside a partition that is elsewhere still."""
    await claimed(store)
    move = await Move.of(cluster, store.keys.transaction(TX))
    other = next(
        tx for tx in (TxId(f"transaction-1000{n:04d}") for n in range(1_000))
        if store.partition_of(tx) == store.partition_of(TX)
    )  # fmt: skip
    before = await redirected(move.source) + await redirected(move.target)
    starting = asyncio.ensure_future(store.start(new(other)))
    await tried(move.source, move.target, before=before, count=1)
    await move.all()
    await move.end()
    assert await starting == t.Started(other)
    (grant,) = await store.claim(store.partition_of(TX), "w1", [SPEC], 1, 60_000, "r")
    assert grant.tx == other


async def test_registers_are_asked_for_where_they_are(cluster: EmbeddedCluster, store: Store) -> None:
    """A register is a key of its own: at each moment one server has it, and says so, or says ASK."""
    await store.beat_worker(t.WorkerRecord("w1", (SPEC,), 1), 60.0)
    move = await Move.of(cluster, store.keys.workers)
    assert [one.id for one in await store.workers()] == ["w1"]
    await move.all()
    assert [one.id for one in await store.workers()] == ["w1"]
    await store.beat_worker(t.WorkerRecord("w2", (SPEC,), 1), 60.0)
    await move.end()
    assert [one.id for one in await store.workers()] == ["w1", "w2"]


async def test_without_their_guard_verbs_would_be_told_lies(
    cluster: EmbeddedCluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guard is for: the importing server has the transaction, and finds its log empty."""
    grant = await claimed(store)
    await store.commit(t.Commit(TX, grant.epoch, 0, entries=(t.NewUpdate(b"u"),)))
    move = await Move.of(cluster, store.keys.transaction(TX))
    await move.some(store.keys.transaction(TX).encode())
    with monkeypatch.context() as patch:
        patch.setattr(type(store.link.topology), "declared", Topology.declared)
        lie = await store.read_log(TX, START, 10)
    assert isinstance(lie, LogPage)
    assert lie.entries == ()
    await move.all()
    await move.end()
    page = await store.read_log(TX, START, 10)
    assert isinstance(page, LogPage)
    assert [one.cursor.seq for one in page.entries] == [1]


# ---- subscriptions


class Hearing:
    """A subscriber, and all that it is told."""

    def __init__(self, store: Store) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.subscriber = Subscriber(
            store, on_live=lambda tx, message: self.told.put_nowait((tx, message.number)),
            on_gap=lambda: self.told.put_nowait("gap"), on_edge=self.told.put_nowait,
        )  # fmt: skip
        self._task = asyncio.ensure_future(self.subscriber.run())

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await self.told.get()

    async def until(self, what: Any) -> list[Any]:
        """Return when told that; what was told before it."""
        before = []
        while (told := await self.next()) != what:
            before.append(told)
        return before

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def hearing(store: Store) -> AsyncIterator[Hearing]:
    hearing = Hearing(store)
    yield hearing
    await hearing.close()


async def test_a_channel_that_moves_is_a_gap_and_then_heard(
    cluster: EmbeddedCluster, store: Store, hearing: Hearing
) -> None:
    grant = await claimed(store)
    await hearing.subscriber.follow_edge("e1")
    await hearing.subscriber.watch(TX)
    move = await Move.of(cluster, store.keys.transaction(TX))
    await move.all()
    await move.end()
    assert await hearing.next() == "gap"
    await soon(lambda: hearing.subscriber.connected)
    await store.commit(t.Commit(TX, grant.epoch, 0))
    await hearing.until((TX, 1))
    await store.tell_edge("e1", b"x")
    await hearing.until(b"x")


async def test_a_channel_whose_server_is_lost_is_a_gap_and_then_heard(
    cluster: EmbeddedCluster, store: Store, hearing: Hearing
) -> None:
    grant = await claimed(store)
    await hearing.subscriber.watch(TX)
    primary = await cluster.primary_of(slot_of_key(store.keys.transaction(TX)))
    (replica,) = await cluster.replicas_of(primary)
    await cluster.synced()
    await cluster.promote(replica)
    assert await hearing.next() == "gap"
    assert isinstance(await store.commit(t.Commit(TX, grant.epoch, 0)), t.Done)
    await hearing.until((TX, 1))


async def agree_on_timeout(cluster: EmbeddedCluster, node_timeout_ms: int) -> None:
    for server in cluster.servers:
        await server.command("CONFIG", "SET", "cluster-node-timeout", node_timeout_ms)


async def test_a_primary_that_dies_is_replaced(cluster: EmbeddedCluster, store: Store, hearing: Hearing) -> None:
    grant = await claimed(store)
    await hearing.subscriber.watch(TX)
    primary = await cluster.primary_of(slot_of_key(store.keys.transaction(TX)))
    await cluster.synced()
    await agree_on_timeout(cluster, 2_000)  # so that it is replaced soon
    primary.kill()
    assert isinstance(await insist(store, t.Commit(TX, grant.epoch, 0)), t.Done)
    assert isinstance(await insist(store, t.Commit(TX, grant.epoch, 1)), t.Done)
    await soon(lambda: hearing.subscriber.connected)
    assert isinstance(await insist(store, t.Commit(TX, grant.epoch, 2)), t.Done)
    assert "gap" in await hearing.until((TX, 3))
    await primary.start()
    await cluster.whole()
    await agree_on_timeout(cluster, NODE_TIMEOUT_MS)


async def test_acknowledgements_wait_for_the_replica_of_their_own_node(
    cluster: EmbeddedCluster, settings: t.StoreSettings
) -> None:
    kept = replace(settings, durability=Durability("replicated", 1), timeout_s=10.0)
    store = await Store.open(cluster.url, kept, wait=True)
    some = [TxId(f"transaction-2000{n:04d}") for n in range(50)]
    holders = {tx: await cluster.primary_of(slot_of_key(store.keys.transaction(tx))) for tx in (TX, *some)}
    primary = holders[TX]
    other = next(tx for tx in some if holders[tx] is not primary)
    (replica,) = await cluster.replicas_of(primary)
    await cluster.cut_off(replica)
    with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
        await store.start(new())
    assert await store.start(new(other)) == t.Started(other), "its node has its replica"
    await cluster.rejoin(replica)
    assert isinstance(await store.start(new()), t.Existed)
    await store.close()


async def test_slots_move_whole_while_work_goes_on(
    cluster: EmbeddedCluster, store: Store, request: pytest.FixtureRequest
) -> None:
    """Valkey 9 moves a range of slots at once: nothing waits, and every commit is done exactly once."""
    if request.node.callspec.params["cluster"] != VALKEY:
        pytest.skip("only Valkey 9 does that")
    grant = await claimed(store)
    slot = slot_of_key(store.keys.transaction(TX))
    numbers = []
    moving = asyncio.ensure_future(_to_and_fro(cluster, slot))
    while not moving.done():
        answer = await insist(store, t.Commit(TX, grant.epoch, len(numbers), entries=(t.NewUpdate(b"u"),)))
        assert isinstance(answer, t.Done | t.Repeated)
        numbers.append(answer.number)
    await moving
    assert numbers == list(range(1, len(numbers) + 1))
    transaction = await store.get(TX)
    assert transaction is not None
    assert transaction.head.seq == len(numbers)


async def _to_and_fro(cluster: EmbeddedCluster, slot: int) -> None:
    for _ in range(3):
        source = await cluster.primary_of(slot)
        target = next(one for one in await cluster.primaries() if one is not source)
        await cluster.move_at_once(slot, slot, source, target)
