"""Redis goes back in time, one kind of loss at a time: who saw what is lost is told, once; all else goes on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from orbit import Connection, State
from orbit.errors import OrbitError
from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.embedded import EmbeddedServer
from orbit.store.starts import by_class, draw_id
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.link import Link
from orbit.verify.logs import check_complete, check_logs
from orbit.verify.proxy import Proxy
from tests.integration.edge_bench import RunningEdge
from tests.integration.fleet import Fleet
from tests.support.past import Past
from tests.support.waiting import SCENE_S, soon

ANN, BOB = "ann-" + "a" * 16, "bob-" + "b" * 16


HELD = 99
"""The number of a message whose handler waits for the test."""


class Handler:
    began = asyncio.Event()
    go_on = asyncio.Event()


class Ledger(State, stays_open=True, name="RewindLedger"):
    """Writes down what it handled."""

    handled: dict[str, int] = {}  # noqa: RUF012 - a pydantic field: each instance has its own

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "finish":
            await self.transaction.finish()
            return
        if data["n"] == HELD:
            Handler.began.set()
            await Handler.go_on.wait()
        own = self.handled[data["client"]] = self.handled.get(data["client"], 0) + 1
        await self.transaction.send_update({**data, "handled": own})


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    with EmbeddedServer(config={"appendonly": "no"}) as one, EmbeddedServer(config={"appendonly": "no"}) as two:
        yield one, two


@pytest.fixture
async def past(servers: tuple[EmbeddedServer, EmbeddedServer]) -> AsyncIterator[Past]:
    one, two = servers
    async with Proxy.before(one.url) as proxy:
        yield Past(one, two, proxy)


@pytest.fixture
def redis_url(past: Past) -> str:
    """Everyone comes through the proxy, so that all connections break at a failover."""
    return past.proxy.url


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    store = await Store.open(redis_url, StoreSettings(namespace=namespace, partitions=4, grace_s=0.05))
    yield store
    await store.close()


@pytest.fixture
async def tx(store: Store, fleet: Fleet) -> TxId:
    await fleet.worker(Ledger, lease_s=2.0)
    return await started(store)


async def started(store: Store) -> TxId:
    tx = draw_id()
    assert isinstance(await insist(lambda: store.start(by_class(Ledger, {}, tx))), t.Started)
    return tx


async def insist(verb: Callable[[], Any]) -> Any:
    """The same again, until the new server answers."""
    while True:
        try:
            return await verb()
        except OrbitError:
            await asyncio.sleep(0.01)


async def attach(link: Link, tx: TxId, **fields: Any) -> dict[str, Any]:
    await link.send({"type": "attach", "tx": tx, **fields})
    return await link.expect("attached", "error", tx=tx)


async def send(link: Link, tx: TxId, mid: int, n: int, client: str = "ann") -> None:
    """Until it is stored."""
    answer: dict[str, Any] = {}
    while answer.get("type") != "receipt":
        await link.send({"type": "send", "tx": tx, "mid": mid, "data": {"client": client, "n": n}})
        answer = await link.expect("receipt", "error", "rejected")
    assert answer["mid"] == mid
    assert answer["duplicate"] is False


async def update(link: Link) -> tuple[int, int, str]:
    """The next one: which message, how many were handled, under which epoch."""
    told = await link.expect("update", "error", "reset")
    assert told["type"] == "update", told
    return told["data"]["n"], told["data"]["handled"], told["cursor"].partition("-")[2]


async def told_since(link: Link, tx: TxId, n: int) -> list[dict[str, Any]]:
    """All that the client is told until the update about message `n`."""
    told: list[dict[str, Any]] = []
    while not (told and told[-1]["type"] == "update" and told[-1]["data"]["n"] == n):
        told.append(await link.expect("update", "reset", "error", "end", "advance", tx=tx))
    return told


# ---- one kind at a time


async def test_commits_and_messages_that_are_lost(past: Past, edge: RunningEdge, tx: TxId) -> None:
    """Two clients saw what is lost, and are told so once; one that had left before goes on as if nothing had been."""
    ann, bob, cat = await edge.link(), await edge.link("msgpack"), await edge.link()
    await attach(ann, tx, session=ANN)
    await attach(bob, tx)
    await attach(cat, tx)
    await send(ann, tx, 1, 1)
    (_, _, old), _, seen = await update(ann), await update(bob), await cat.expect("update")
    await cat.close()
    await past.remember()
    await send(ann, tx, 2, 2)
    assert (await update(ann))[:2] == (await update(bob))[:2] == (2, 2)
    await past.go_back()
    reset = await ann.expect("reset", "update", "error")
    assert (reset["type"], reset["reason"], reset["last_mid"]) == ("reset", "rewound", 1)
    assert (await update(ann))[:2] == (1, 1), "the State has no view: what is kept of the log follows"
    await send(ann, tx, 2, 3)
    assert [one["type"] for one in await told_since(bob, tx, 3)] == ["reset", "update", "update"]
    n, handled, new = await update(ann)
    assert (n, handled) == (3, 2), "it goes on from the fields that survived"
    assert new > old, "under an epoch that was never there before"
    cat = await edge.link()
    await attach(cat, tx, after=seen["cursor"])
    assert [one["type"] for one in await told_since(cat, tx, 3)] == ["update"]


async def test_a_grant_that_is_lost(past: Past, edge: RunningEdge, store: Store, fleet: Fleet) -> None:
    """The worker's commit under it is refused; the transaction is claimed anew, and no epoch is there twice."""
    tx = await started(store)
    await past.remember()
    worker = await fleet.worker(Ledger, lease_s=2.0, linger_s=30.0)
    ann = await edge.link()
    await attach(ann, tx, session=ANN)
    await send(ann, tx, 1, 1)
    _, _, old = await update(ann)
    await past.go_back()
    assert (await ann.expect("reset"))["last_mid"] == 0
    await send(ann, tx, 1, 2)
    n, handled, new = await update(ann)
    assert (n, handled) == (2, 1)
    assert new > old
    assert worker.metrics.released["gone"]._value.get() >= 1


async def test_a_message_that_is_lost_after_it_was_read(past: Past, edge: RunningEdge, tx: TxId) -> None:
    """It was handled, but the commit that says so comes to a Redis that never had it: so nothing of it is seen."""
    ann = await edge.link()
    await attach(ann, tx, session=ANN)
    await send(ann, tx, 1, 1)
    await update(ann)
    await past.remember()
    await send(ann, tx, 2, HELD)
    await Handler.began.wait()
    await past.go_back()
    reset = await ann.expect("reset")
    assert reset["last_mid"] == 1
    assert (await update(ann))[:2] == (1, 1)
    Handler.go_on.set()
    await send(ann, tx, 2, 3)
    assert (await update(ann))[:2] == (3, 2), "of the message that was lost nothing is seen"


async def test_a_start_that_is_lost(past: Past, edge: RunningEdge, store: Store, fleet: Fleet) -> None:
    await fleet.worker(Ledger, lease_s=2.0, linger_s=30.0)
    await past.remember()
    tx, ann = await started(store), await edge.link()
    await attach(ann, tx, session=ANN)
    await send(ann, tx, 1, 1)
    _, _, old = await update(ann)
    await past.go_back()
    gone = await ann.expect("error")
    assert (gone["code"], gone["tx"], gone.get("op")) == ("not_found", tx, None)
    assert (await attach(ann, tx, session=ANN))["code"] == "not_found"
    assert isinstance(await insist(lambda: store.start(by_class(Ledger, {}, tx))), t.Started)
    assert (await attach(ann, tx, session=ANN))["last_mid"] == 0
    await send(ann, tx, 1, 2)
    n, handled, new = await update(ann)
    assert (n, handled) == (2, 1)
    assert new > old


async def test_messages_that_are_lost_before_they_were_handled(past: Past, edge: RunningEdge, store: Store) -> None:
    """Nothing of the log is lost, so who sent nothing hears nothing; who holds a receipt is told."""
    tx = await started(store)
    ann, bob = await edge.link(), await edge.link()
    await attach(ann, tx, session=ANN)
    await attach(bob, tx, session=BOB)
    await send(ann, tx, 1, 1)
    await past.remember()
    await send(ann, tx, 2, 2)
    await send(ann, tx, 3, 3)
    await past.go_back()
    reset = await ann.expect("reset")
    assert (reset["reason"], reset["last_mid"], reset["cursor"]) == ("rewound", 1, "0")
    await send(ann, tx, 2, 4)
    await send(bob, tx, 1, 5, "bob")
    work = await insist(lambda: store.read_work(tx, None, 10))
    assert [entry.mid for entry in work.incoming] == [1, 2, 1]
    await bob.send({"type": "ping"})
    assert [one["type"] for one in await bob.read()] == ["pong"]


async def test_an_attach_that_is_lost_with_its_messages(
    past: Past, edge: RunningEdge, other_edge: RunningEdge, store: Store
) -> None:
    """Redis goes back to a place at an edge that the client left long ago (its connection still stands there, and it
    wasn't told). The later attach has its place again; what the old connection says is refused."""
    tx = await started(store)
    old, new = await edge.link(), await other_edge.link()
    await attach(old, tx, session=ANN)
    await send(old, tx, 1, 1)
    await past.remember()
    past.proxy.rewrite = lambda data: data.replace(b"replaced", b"reheated")
    assert (await attach(new, tx, session=ANN))["last_mid"] == 1
    past.proxy.rewrite = bytes
    await send(new, tx, 2, 2)
    await past.go_back()
    assert (await new.expect("reset", "error"))["last_mid"] == 1
    assert (await old.expect("error"))["code"] == "replaced"
    await old.send({"type": "send", "tx": tx, "mid": 2, "data": "old"})
    assert (await old.expect("rejected", "receipt"))["code"] == "replaced"
    await send(new, tx, 2, 3)


async def test_a_leaving_that_is_lost(past: Past, edge: RunningEdge, store: Store) -> None:
    """Redis goes back to a place whose client is gone: its edge, which lives on, frees it once more."""
    tx = await started(store)
    ann, bob = await edge.link(), await edge.link()
    await attach(ann, tx, session=ANN)
    await attach(bob, tx, session=BOB)
    await past.remember()
    await ann.close()
    while (await store.sessions(tx))[1] != 1:
        pass
    await past.go_back()
    while (await insist(lambda: store.sessions(tx)))[1] != 1:
        pass
    await send(bob, tx, 1, 1, "bob")


# ---- all at once


async def test_clients_that_go_on_sending_miss_nothing_in_silence(
    past: Past, edge: RunningEdge, other_edge: RunningEdge, store: Store, fleet: Fleet, seed: int,
    measured: Callable[[str], None],
) -> None:  # fmt: skip
    """Redis goes back again and again while clients, written from the public page alone, send without a pause: each
    message with a receipt is handled once or reported as lost, and what each saw is one log, or it was told."""
    rng = random.Random(seed)
    await fleet.worker(Ledger, lease_s=2.0)
    transactions = [await started(store) for _ in range(2)]
    clients = [
        WireClient([edge.url, other_edge.url], name=f"client {n}", rng=random.Random(rng.random())) for n in range(3)
    ]
    running = [asyncio.create_task(client.run()) for client in clients]
    followers = [client.follow(tx) for client in clients for tx in transactions]
    numbers = Counter[tuple[str, str]]()

    async def talk(follower: Follower) -> None:
        name = follower.client.trace.name
        while True:
            for _ in range(rng.randrange(1, 8)):
                numbers[name, follower.tx] += 1
                follower.send({"client": name, "n": 100 + numbers[name, follower.tx]})
            await follower.until_stored()

    async with asyncio.timeout(SCENE_S):
        talking = [asyncio.create_task(talk(follower)) for follower in followers]
        for _ in range(4):
            at = sum(numbers.values())
            await soon(lambda at=at: sum(numbers.values()) > at + 60)  # type: ignore[misc]
            await past.remember()
            await asyncio.sleep(rng.uniform(0, 0.03))
            await past.go_back()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        for follower in followers:
            await follower.until_stored()
        for follower in {follower.tx: follower for follower in followers}.values():
            while follower.end is None:
                lost = len(follower.lost)
                follower.send("finish")  # and again, should it be among what is of unknown fate
                await follower.until(lambda f, lost=lost: f.end is not None or "finish" in f.lost[lost:])
        for follower in followers:
            await follower.until(lambda f: f.end is not None)
    for client in clients:
        await client.stop()
    await asyncio.gather(*running, return_exceptions=True)
    found = _judge(followers, await read_logs(edge.url, [(f.tx, str(f.session)) for f in followers]))
    assert not found, f"ORBIT_SEED={seed}\n" + "\n".join(found[:40])
    lost, resets = sum(len(f.lost) for f in followers), sum(len(f.resets) for f in followers)
    measured(f"{sum(numbers.values())} messages, {lost} reported as lost, {resets} resets (ORBIT_SEED={seed})")


def _judge(followers: list[Follower], logs: dict[tuple[str, str], Any]) -> list[str]:
    found: list[str] = []
    for client in {follower.client.trace.name: follower.client for follower in followers}.values():
        own = {tx: logs[tx, str(f.session)] for tx, f in client.followers.items()}
        found += check_trace(client.trace, own, resets={"rewound"})
    for follower in followers:
        name, log = follower.client.trace.name, logs[follower.tx, str(follower.session)]
        found += check_complete(name, follower.entries, log)
        handled = Counter(e.body["n"] for e in log if e.kind == "update" and e.body.get("client") == name)
        told = {data["n"] for data in follower.stored.values() if data != "finish"}
        twice, missing = [n for n, count in handled.items() if count > 1], told - set(handled)
        if twice or missing:
            found.append(f"{name} in {follower.tx}: handled twice {twice}; stored, not handled, not told {missing}")
        if any(reset["reason"] != "rewound" for reset in follower.resets):
            found.append(f"{name} in {follower.tx}: {follower.resets}")
    for tx in {follower.tx for follower in followers}:
        found += check_logs({session: log for (of, session), log in logs.items() if of == tx})
    return found
