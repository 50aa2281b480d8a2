"""A primary is lost with what its replica hadn't got yet: with `replicated`, nothing that was acknowledged is among it.

The replica is cut off while commits, messages and starts go on; then the primary is killed and the replica takes its
place. Whoever has no answer sends the same bytes again, to the new primary, and waits for that one's replica.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from orbit import Connection, State
from orbit.errors import OutcomeUnknown, Unavailable
from orbit.protocol.cursors import START
from orbit.protocol.entries import LogPage, UpdateEntry
from orbit.protocol.ids import PublicName, TxId
from orbit.protocol.values import pack, unpack
from orbit.store import keeping
from orbit.store import types as t
from orbit.store.durability import MEMORY, Durability
from orbit.store.embedded import EmbeddedServer
from orbit.store.embedded.group import follows, until
from orbit.store.starts import by_class, draw_id
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.verify.link import Link
from orbit.verify.proxy import Proxy
from tests.integration.edge_bench import RunningEdge
from tests.integration.fleet import Fleet
from tests.support.waiting import PATIENCE_S

REPLICATED = Durability("replicated", 1)
QUICK = {"appendonly": "no", "repl-diskless-sync-delay": "0", "repl-timeout": "3600"}
SESSIONS = 6
ANN = "ann-" + "a" * 16
SPEC = t.Spec("default", "Demo", 1)


class Servers:
    """A primary, its replica behind a proxy of its own, and the replica's replica; clients come through `front`."""

    def __init__(self, primary: EmbeddedServer, between: Proxy, replica: EmbeddedServer, front: Proxy) -> None:
        self.primary = primary
        self.between = between
        self.replica = replica
        self.front = front

    async def fail_over(self) -> None:
        self.primary.kill()
        self.between.drop_all()
        await self.replica.command("REPLICAOF", "NO", "ONE")
        self.front.lead_to(self.replica.url)
        self.front.drop_all()


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    async with EmbeddedServer(tcp=True, config=QUICK) as primary, Proxy.before(primary.url) as between:
        behind = {**QUICK, "replicaof": f"127.0.0.1 {between.port}"}
        async with EmbeddedServer(tcp=True, config=behind) as replica, Proxy.before(primary.url) as front:
            last = {**QUICK, "replicaof": f"127.0.0.1 {replica.port}"}
            async with EmbeddedServer(tcp=True, config=last):
                await until("a first copy", lambda: follows(replica))  # the last one has its own soon enough
                yield Servers(primary, between, replica, front)


class Acknowledged:
    """What was acknowledged, of three kinds; and what turned out to be lost."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.mids: dict[PublicName, int] = {}
        self.starts: list[TxId] = []
        self.lost: list[str] = []
        self.unknown = 0
        self._news = asyncio.Event()

    @property
    def count(self) -> int:
        return len(self.commits) + sum(self.mids.values()) + len(self.starts)

    def note(self) -> None:
        self._news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()


class Load:
    """One run that commits, sessions that send, and an application that starts; and a store that has more patience."""

    def __init__(self, store: Store, patient: Store, tx: TxId, grant: t.Grant) -> None:
        self.store = store
        self.patient = patient
        self.tx = tx
        self.grant = grant
        self.told = Acknowledged()

    async def insist(self, verb: Callable[[], Awaitable[Any]]) -> Any:
        """The same again until it is known how it went."""
        while True:
            try:
                return await verb()
            except OutcomeUnknown:
                self.told.unknown += 1
            except Unavailable:
                await asyncio.sleep(0.01)
            self.told.note()

    async def commit(self) -> None:
        number = self.grant.number
        while True:
            commit = t.Commit(self.tx, self.grant.epoch, number, entries=(t.NewUpdate(pack(number + 1)),))
            answer = await self.insist(lambda commit=commit: self.store.commit(commit))  # type: ignore[misc]
            if not isinstance(answer, t.Done | t.Repeated):
                self.told.lost.append(f"commit {number}: {answer}")
                return
            number += 1
            self.told.commits.append(number)
            self.told.note()

    async def send(self, session: PublicName) -> None:
        mid = 1
        while True:
            message = t.NewMessage(b"data", session, mid)
            answer = await self.insist(lambda message=message: self.store.append(self.tx, message))  # type: ignore[misc]
            if isinstance(answer, t.WrongMid):
                self.told.lost.append(f"{session}: {answer.last_mid + 1} to {mid - 1}")
                return
            assert isinstance(answer, t.Stored), answer
            self.told.mids[session] = mid
            self.told.note()
            mid += 1

    async def start(self) -> None:
        while True:
            tx = TxId(secrets.token_urlsafe(16))
            new = t.NewTransaction(tx, "Other", 1, "default", b"{}", "digest", False, 100, 600.0)
            assert await self.insist(lambda new=new: self.store.start(new)) in (  # type: ignore[misc]
                t.Started(tx), t.Existed(tx, t.Outcome("pending", None, None)),
            )  # fmt: skip
            self.told.starts.append(tx)
            self.told.note()

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """All of it, for as long as the block runs."""
        work = [self.commit(), self.start(), *(self.send(PublicName(f"session {n}")) for n in range(SESSIONS))]
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [one for one in outcomes if isinstance(one, Exception)], outcomes

    async def missing(self) -> list[str]:
        """What was acknowledged and isn't there."""
        found = list(self.told.lost)
        page = await self.insist(lambda: self.patient.read_log(self.tx, START, 100_000))
        assert isinstance(page, LogPage)
        written = [unpack(entry.data) for entry in page.entries if isinstance(entry, UpdateEntry)]
        assert written == list(range(1, len(written) + 1)), "one history, without a gap or a repeat"
        found += [f"commit {number}" for number in self.told.commits if number > len(written)]
        for session, mid in self.told.mids.items():
            row = await self.insist(lambda session=session: self.patient.session(self.tx, session))  # type: ignore[misc]
            if row is None or row.last_mid < mid:
                found.append(f"{session}: {mid}, {row}")
        for tx in self.told.starts:
            if await self.insist(lambda tx=tx: self.patient.get(tx)) is None:  # type: ignore[misc]
                found.append(f"start {tx}")
        return found

    async def close(self) -> None:
        await self.store.close()
        await self.patient.close()


async def begun(url: str, durability: Durability) -> Load:
    settings = StoreSettings(partitions=4, inbox_messages=10**6, timeout_s=0.5, durability=durability)
    store = await Store.open(url, settings, wait=True)
    patient = await Store.open(url, replace(settings, timeout_s=PATIENCE_S), wait=True)
    tx = TxId(secrets.token_urlsafe(16))
    new = t.NewTransaction(tx, "Demo", 1, "default", b"{}", "digest", False, 10**6, 600.0)
    with suppress(OutcomeUnknown):  # it is there, if not kept yet
        await patient.start(new)
    (grant,) = await patient.claim(store.partition_of(tx), "w", [SPEC], 1, 600_000, "r")
    return Load(store, patient, tx, grant)


async def failed_over(servers: Servers, load: Load, rng: random.Random) -> None:
    """Goes on until the replica is cut off, the primary lost and replaced, and some more was acknowledged."""
    told = load.told
    before, unseen = rng.randrange(100, 400), rng.randrange(1, 12)
    async with load.going_on():
        await told.until(lambda: told.count >= before)
        servers.between.hold()
        at = told.count
        if load.store.durability.waits:
            await told.until(lambda: told.unknown >= unseen)
            servers.front.drop_all()  # what was done is asked again over a connection that has written nothing yet
            again = told.unknown + 2 * SESSIONS
            await told.until(lambda: told.unknown >= again)
        else:
            await told.until(lambda: told.count >= at + 10 * unseen)
        await servers.fail_over()
        at = told.count
        await told.until(lambda: told.count >= at + 100 or len(told.lost) > SESSIONS)


@pytest.mark.parametrize("round", range(2))
async def test_nothing_acknowledged_is_lost_with_a_primary(
    servers: Servers, seed: int, round: int, measured: Callable[[str], None]
) -> None:
    load = await begun(servers.front.url, REPLICATED)
    await failed_over(servers, load, random.Random(seed + round))
    told = load.told
    assert await load.missing() == []
    measured(f"{told.count} acknowledged, {told.unknown} unknown at first, none lost (ORBIT_SEED={seed})")
    await load.close()


async def test_memory_loses_what_was_acknowledged_and_says_so(servers: Servers, seed: int) -> None:
    """The same failover, without waiting: so what the test above finds nothing of is there to be found."""
    load = await begun(servers.front.url, MEMORY)
    await failed_over(servers, load, random.Random(seed))
    assert await load.missing() != []
    await load.close()


async def test_nothing_that_was_synced_is_lost_with_a_killed_server(seed: int) -> None:
    config = {"appendfsync": "everysec"}
    async with EmbeddedServer(tcp=True, config=config) as server, Proxy.before(server.url) as front:
        load = await begun(front.url, Durability("fsync"))
        told, wanted = load.told, random.Random(seed).randrange(20, 60)
        async with load.going_on():
            await told.until(lambda: told.count >= wanted)
            server.kill()
            front.drop_all()
            await server.start()
            at = told.count
            await told.until(lambda: told.count >= at + 20 or bool(told.lost))
        assert await load.missing() == []
        await load.close()


class Echo(State, stays_open=True, name="KeptEcho"):
    """Counts what it heard."""

    heard: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.heard += 1
        await self.transaction.send_update(self.heard)


async def test_a_client_sees_at_once_and_is_told_later(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the replica is cut off an update is seen, but the turn that sent it isn't over: the next message waits. And
    no message has a receipt. Once the replica is there again all goes on, and nothing was done twice."""
    monkeypatch.setattr(keeping, "WAIT_SHARE", 0.05)  # so that it is soon told that it isn't kept
    namespace = f"test-{secrets.token_hex(4)}"
    settings = StoreSettings(namespace=namespace, partitions=4, durability=REPLICATED)
    store = await Store.open(servers.front.url, settings)
    fleet, edge = Fleet(servers.front.url, store), await RunningEdge(servers.front.url, namespace).start()
    try:
        await fleet.worker(Echo)
        tx, link = draw_id(), await edge.link()
        with suppress(OutcomeUnknown):  # it is there, if not kept yet
            await store.start(by_class(Echo, {}, tx))
        assert (await insistently_attached(link, tx))["last_mid"] == 0
        servers.between.hold()
        for mid in (1, 2):
            await link.send({"type": "send", "tx": tx, "mid": mid, "data": "more"})
        told = [await link.expect("update", "error", "receipt") for _ in range(3)]
        assert sorted((one["type"], one.get("mid"), one.get("code"), one.get("data")) for one in told) == [
            ("error", 1, "unavailable", None), ("error", 2, "unavailable", None), ("update", None, None, 1),
        ]  # fmt: skip
        await link.send({"type": "attach", "tx": tx, "session": ANN, "after": "$"})
        assert (await link.expect("attached", "error"))["type"] == "error", "its last mid would be an acknowledgement"
        servers.between.release()
        assert (await insistently_attached(link, tx, after="$"))["last_mid"] == 2
        for mid in (1, 2):
            answer = {"type": "error"}
            while answer["type"] == "error":
                await link.send({"type": "send", "tx": tx, "mid": mid, "data": "more"})
                answer = await link.expect("receipt", "error")
            assert answer == {"type": "receipt", "tx": tx, "mid": mid, "duplicate": True}
        seen: list[Any] = []
        while len(seen) < 2:
            page = await store.read_log(tx, START, 100)
            assert isinstance(page, LogPage)
            seen = [unpack(entry.data) for entry in page.entries if isinstance(entry, UpdateEntry)]
        assert seen == [1, 2]
    finally:
        servers.between.release()
        await edge.close()
        await fleet.close()
        await store.close()


async def insistently_attached(link: Link, tx: TxId, after: str = "0") -> dict[str, Any]:
    """The same again until the replica has it in time."""
    answer = {"type": "error"}
    while answer["type"] == "error":
        await link.send({"type": "attach", "tx": tx, "session": ANN, "after": after})
        answer = await link.expect("attached", "error", tx=tx)
    return answer
