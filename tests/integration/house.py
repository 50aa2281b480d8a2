"""A transaction in a real store, driven by the worker's turn code without a worker around it.

What goes through the store can be watched and crashed: `Tap` stands between an actor and the store.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from orbit.errors import OutcomeUnknown
from orbit.protocol.cursors import START
from orbit.protocol.entries import EndEntry, Entry, LogPage, RefusalEntry, UpdateEntry
from orbit.protocol.ids import InboxId, PublicName, TxId
from orbit.protocol.values import pack, unpack
from orbit.state import State, hooks_of
from orbit.store import types as t
from orbit.store.store import Store
from orbit.worker.actor import Actor
from orbit.worker.discover import spec_of
from orbit.worker.lease import Lease, now_s
from orbit.worker.life import live
from orbit.worker.metrics import Metrics
from orbit.worker.surroundings import Leaving, Surroundings


class Crash(Exception):
    """The worker is gone."""


class Tap:
    """The store as one actor sees it: commits are counted, and a crash can be set before or after one of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.commits: list[t.Commit] = []
        self.crash_before: int | None = None
        self.crash_after: int | None = None
        self.crashed = asyncio.Event()
        self.before_commit: Callable[[t.Commit], Awaitable[None]] | None = None
        self.after_commit: Callable[[t.Commit], Awaitable[None]] | None = None
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_work(self, tx: TxId, after: InboxId | None, limit: int) -> t.Work | t.Missing:
        work = await self._store.read_work(tx, after, limit)
        self.reads += 1
        return work

    async def commit(self, commit: t.Commit) -> t.CommitAnswer:
        if self.crashed.is_set():
            raise OutcomeUnknown("crashed")
        if self.before_commit is not None:
            await self.before_commit(commit)
        self.commits.append(commit)
        if len(self.commits) == self.crash_before:
            self.crashed.set()
            raise OutcomeUnknown("crashed")
        answer = await self._store.commit(commit)
        if len(self.commits) == self.crash_after:
            self.crashed.set()
            raise OutcomeUnknown("crashed")
        if self.after_commit is not None:
            await self.after_commit(commit)
        return answer


class Stay:
    """One actor at work, as `live` runs it."""

    def __init__(self, house: House, actor: Actor, tap: Tap) -> None:
        self.house = house
        self.actor = actor
        self.tap = tap
        self.drop = asyncio.Event()
        self.task = asyncio.ensure_future(live(actor, self.drop))

    async def leaving(self) -> Leaving:
        """Until it leaves by itself."""
        return await self.task

    async def idle(self) -> None:
        """Until it has nothing to do; then it is put to sleep."""
        assert await self.task is Leaving.IDLE
        await self.release(idle=True)

    async def release(self, *, idle: bool = False) -> None:
        await self.house.store.release(
            self.actor.tx, self.actor.grant.epoch, self.actor.history.number, self.actor.last_seen, idle=idle,
            timers=self.actor.wake_timers(),
        )

    async def kill(self) -> None:
        """As if the process died: nothing is written any more, nothing is released."""
        self.tap.crashed.set()
        self.actor.note_lost()
        self.drop.set()
        await self.task
        await asyncio.gather(*self.actor.tasks, return_exceptions=True)


class House:
    """A store, and transactions in it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.metrics = Metrics()
        self.linger_s = 0.05
        self.retain_s = 60.0
        self.options: dict[str, Any] = {}
        self._stays: list[Stay] = []
        self._mids: dict[PublicName, int] = {}

    async def start(self, cls: type[State], fields: str = "{}", *, keep_updates: int | None = None) -> TxId:
        tx = TxId(secrets.token_hex(16))
        options = cls.__orbit__
        new = t.NewTransaction(
            tx=tx, state=options.name, version=options.version, queue=options.queue, fields=fields.encode(),
            body_digest="", connection_hooks=bool(hooks_of(cls) & {"on_new_connection", "on_disconnect"}),
            keep_updates=keep_updates or options.keep_updates, retain_s=self.retain_s,
        )  # fmt: skip
        assert isinstance(await self.store.start(new), t.Started)
        return tx

    async def claim(self, cls: type[State], tx: TxId, tap: Tap | None = None) -> Stay:
        """Take it over, also from a worker that was killed, and run it. Its lease at the server is over at once."""
        partition = self.store.partition_of(tx)
        while True:
            await self.store.due(partition)
            grants = await self.store.claim(partition, "tester", [spec_of(cls)], 1, 1, secrets.token_hex(8))
            if grants:
                break
        (grant,) = grants
        assert grant.tx == tx
        tap = tap or Tap(self.store)
        around = Surroundings(
            tap, self.metrics, **{"linger_s": self.linger_s, "cancel_grace_s": 0.2, **self.options}  # type: ignore[arg-type]
        )
        stay = Stay(self, Actor(around, cls, grant, Lease(tx, grant.epoch, grant.number, now_s() + 3600)), tap)
        self._stays.append(stay)
        return stay

    async def run(self, cls: type[State], fields: str = "{}") -> tuple[TxId, Stay]:
        tx = await self.start(cls, fields)
        return tx, await self.claim(cls, tx)

    async def close(self) -> None:
        for stay in self._stays:
            if not stay.task.done():
                await stay.kill()

    # ---- clients

    async def attach(self, tx: TxId, name: str, subject: str | None = None) -> PublicName:
        session = PublicName(name)
        await self.store.attach(tx, session, t.Place("edge", name, secrets.token_hex(4)), subject)
        return session

    async def send(self, tx: TxId, data: Any, session: PublicName | None = None, subject: str | None = None) -> None:
        mid = None
        if session is not None:
            mid = self._mids[session] = self._mids.get(session, 0) + 1
        stored = await self.store.append(tx, t.NewMessage(pack(data), session, mid, subject=subject))
        assert isinstance(stored, t.Stored), stored
        for stay in self._stays:
            if stay.actor.tx == tx:
                stay.actor.nudge()

    async def pass_time(self, tx: TxId, seconds: int) -> None:
        """As if so much more had passed, by the server's clock, since it was last seen to."""
        link, key = self.store.link, self.store.keys.transaction(tx)
        await link.write("HINCRBY", key, "started", -1000 * seconds)
        for member in await link.read("ZRANGE", f"{key}:timers", 0, -1):
            await link.write("ZINCRBY", f"{key}:timers", -1000 * seconds, member)
        due = self.store.keys.partition(self.store.partition_of(tx)) + ":due"
        await link.write("ZADD", due, "XX", "INCR", -1000 * seconds, f"t:{tx}")

    # ---- what is seen

    async def log(self, tx: TxId) -> list[Entry]:
        page = await self.store.read_log(tx, START, 1000)
        assert isinstance(page, LogPage)
        return list(page.entries)

    async def updates(self, tx: TxId) -> list[Any]:
        return [unpack(entry.data) for entry in await self.log(tx) if isinstance(entry, UpdateEntry)]

    async def refusals(self, tx: TxId) -> list[tuple[str, int, str]]:
        return [(e.session, e.mid, e.code) for e in await self.log(tx) if isinstance(e, RefusalEntry)]

    async def end(self, tx: TxId) -> tuple[str, Any]:
        *_, end = (entry for entry in await self.log(tx) if isinstance(entry, EndEntry))
        if end.error is not None:
            return end.status, (end.error.type, end.error.message)
        return end.status, None if end.result is None else unpack(end.result)
