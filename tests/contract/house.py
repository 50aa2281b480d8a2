"""A store with everything that a test does to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar, cast

from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import Entry, LiveMessage, LogPage
from orbit.protocol.ids import PublicName, TxId
from orbit.store import types as t
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from tests.contract.keyspace import Keyspace, read_keyspace, write_keyspace

SPEC = t.Spec("default", "Demo", 1)
ANN = PublicName("ann-public-name-000000")
BOB = PublicName("bob-public-name-000000")
LEASE_MS = 600_000
MARK = t.OwnerNudge(TxId("mark-transaction"), cast(Any, "mark"))
"""What is announced last, in each partition: they may lie on several servers."""
NEVER = 9e15
"""The time of a timer that stands in the inbox."""
Answer = TypeVar("Answer")


def place(edge: str = "e1", connection: str = "c1", attach: str = "1") -> t.Place:
    return t.Place(edge, connection, attach)


class House:
    """One deployment, and a client of the test's own to look behind the store's back."""

    def __init__(self, store: Store, redis: Any) -> None:
        self.store = store
        self.redis = redis
        self._count = itertools.count(1)
        self._requests = itertools.count(1)

    # starting

    def new(self, **changes: Any) -> t.NewTransaction:
        tx = TxId(f"transaction-{next(self._count):08d}")
        plain = t.NewTransaction(tx, "Demo", 1, "default", b'{"n":0}', "digest", True, 1_000, 600.0)
        return replace(plain, **changes)

    async def begin(self, **changes: Any) -> TxId:
        """A transaction that is ready."""
        new = self.new(**changes)
        assert await self.store.start(new) == t.Started(new.tx)
        return new.tx

    async def run(self, **changes: Any) -> t.Grant:
        """A transaction that runs, at worker `w1`."""
        return await self.claim_one(await self.begin(**changes))

    async def claim(
        self, tx: TxId, worker: str = "w1", lease_ms: int = LEASE_MS, **changes: Any
    ) -> tuple[t.Grant, ...]:
        """What `worker` gets of the transaction's partition."""
        asked: dict[str, Any] = {"specs": [SPEC], "room": 100, "request": f"r{next(self._requests)}"} | changes
        return await self.store.claim(
            self.store.partition_of(tx), worker, asked["specs"], asked["room"], lease_ms, asked["request"]
        )

    async def claim_one(self, tx: TxId, worker: str = "w1", lease_ms: int = LEASE_MS) -> t.Grant:
        (grant,) = (one for one in await self.claim(tx, worker, lease_ms) if one.tx == tx)
        return grant

    async def commit(self, grant: t.Grant, number: int = 0, **changes: Any) -> t.CommitAnswer:
        return await self.store.commit(t.Commit(grant.tx, grant.epoch, number, **changes))

    async def write(self, grant: t.Grant, number: int, *data: bytes) -> t.Done:
        """A commit that is done, of one update for each of `data`."""
        answer = await self.commit(grant, number, entries=tuple(map(t.NewUpdate, data)))
        assert isinstance(answer, t.Done)
        return answer

    async def end(self, grant: t.Grant, number: int = 0, status: Any = "finished", **changes: Any) -> t.Done:
        answer = await self.commit(grant, number, end=t.NewEnd(status), **changes)
        assert isinstance(answer, t.Done)
        return answer

    async def send(self, tx: TxId, mid: int, session: PublicName = ANN, **changes: Any) -> None:
        """A message that is stored."""
        message = replace(t.NewMessage(b"data", session, mid), **changes)
        assert await self.store.append(tx, message) == t.Stored(False, mid)

    async def attach(self, tx: TxId, session: PublicName = ANN, at: t.Place | None = None) -> t.AttachDone:
        answer = await self.store.attach(tx, session, at or place(), None)
        assert isinstance(answer, t.AttachDone)
        return answer

    async def due(self, tx: TxId) -> t.DueAnswer:
        return await self.store.due(self.store.partition_of(tx))

    # looking

    async def work(self, tx: TxId, after: Any = None, limit: int = 100) -> t.Work:
        work = await self.store.read_work(tx, after, limit)
        assert isinstance(work, t.Work)
        return work

    async def log(self, tx: TxId, after: Cursor = START, limit: int = 1_000) -> tuple[Entry, ...]:
        page = await self.store.read_log(tx, after, limit)
        assert isinstance(page, LogPage)
        return page.entries

    async def status(self, tx: TxId) -> str:
        transaction = await self.store.get(tx)
        assert transaction is not None
        return transaction.status

    async def is_ready(self, tx: TxId, spec: t.Spec = SPEC) -> bool:
        key = self.store.keys.ready(self.store.partition_of(tx), spec)
        return await self.redis.zscore(key, tx) is not None

    async def due_members(self, tx: TxId) -> dict[bytes, float]:
        """What is due of a transaction, and when."""
        key = self.store.keys.partition(self.store.partition_of(tx)) + ":due"
        return {name: at for name, at in await self.redis.zrange(key, 0, -1, withscores=True) if tx.encode() in name}

    async def loaded(self, grant: t.Grant) -> t.Loaded:
        loaded = await self.store.load(grant.tx, grant.epoch)
        assert isinstance(loaded, t.Loaded)
        return loaded

    async def session(self, tx: TxId, session: PublicName = ANN) -> dict[str, bytes]:
        """A session's row."""
        rows = await self.redis.hgetall(self.store.keys.transaction(tx) + ":sess")
        return {name[:1].decode(): value for name, value in rows.items() if name[2:] == session.encode()}

    # time

    async def now_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def pass_ms(self, count: int) -> None:
        """Return when the server's clock has gone on by so many milliseconds."""
        then = await self.now_ms() + count
        while await self.now_ms() < then:
            pass

    async def pass_due(self, tx: TxId, kind: str) -> None:
        """Make the server's clock pass what is due: the due time is set back instead."""
        key, member = self.store.keys.partition(self.store.partition_of(tx)) + ":due", f"{kind}:{tx}"
        assert await self.redis.zscore(key, member) is not None
        past = await self.now_ms() - 1
        await self.redis.zadd(key, {member: past})
        timers = self.store.keys.transaction(tx) + ":timers"
        if kind == "t":
            for name, at in await self.redis.zrange(timers, 0, -1, withscores=True):
                if at < NEVER:
                    await self.redis.zadd(timers, {name: past})

    async def expire_lease(self, tx: TxId) -> None:
        """As if the lease had run out."""
        await self.redis.hset(self.store.keys.transaction(tx), "lease", str(await self.now_ms() - 1))
        await self.pass_due(tx, "l")

    async def forget_times(self, tx: TxId, suffix: str) -> None:
        """As if all that a sorted set of the transaction notes had been long ago."""
        key = self.store.keys.transaction(tx) + suffix
        members: list[bytes] = await self.redis.zrange(key, 0, -1)
        await self.redis.zadd(key, dict.fromkeys(members, 1))

    # the whole keyspace

    async def keyspace(self) -> Keyspace:
        return await read_keyspace(self.redis, self.store.settings.namespace)

    async def rewind(self, then: Keyspace) -> None:
        """Redis loses everything that was written since."""
        await write_keyspace(self.redis, self.store.settings.namespace, then)

    async def refused(self, doing: Awaitable[Answer]) -> Answer:
        """The answer of something that must write nothing: the whole keyspace is compared."""
        before = await self.keyspace()
        answer = await doing
        assert await self.keyspace() == before
        return answer


class Heard:
    """Everything that is announced, in order."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        self._subscriber = Subscriber(
            house.store,
            on_live=lambda tx, message: self._said.put_nowait(message),
            on_wake=self._said.put_nowait,
            on_nudge=self._said.put_nowait,
            on_edge=self._said.put_nowait,
        )
        self._task = asyncio.ensure_future(self._subscriber.run())

    @classmethod
    async def of(cls, house: House, *transactions: TxId) -> Heard:
        """Listens to all wake channels, to worker `w1`'s, to edge `e1`'s, and to these transactions."""
        heard = cls(house)
        await heard._subscriber.follow_partitions("w1")
        await heard._subscriber.follow_edge("e1")
        for tx in transactions:
            await heard._subscriber.watch(tx)
        return heard

    async def since(self) -> list[Any]:
        """What was announced since this was asked last."""
        store, marks = self._house.store, 1 + self._house.store.partitions
        await store.tell_edge("e1", b"mark")
        for partition in range(store.partitions):
            channel = store.keys.worker_channel(partition, "w1")
            await store.link.write("SPUBLISH", channel, f"{MARK.why} {MARK.tx}")
        said: list[Any] = []
        while marks:
            one = await self._said.get()
            if one in (b"mark", MARK):
                marks -= 1
            else:
                said.append(one)
        return said

    async def live(self) -> list[LiveMessage]:
        return [one for one in await self.since() if isinstance(one, LiveMessage)]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
