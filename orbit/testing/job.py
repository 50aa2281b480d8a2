"""One transaction on a bench, and clients that speak to it."""

from __future__ import annotations

import secrets
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from orbit.errors import BadRequest, Ended, Forbidden, NotFound, Overloaded, TransactionFailed
from orbit.protocol.cursors import START
from orbit.protocol.entries import ENDED, EndEntry, Entry, LogReset, RefusalEntry, UpdateEntry
from orbit.protocol.ids import PublicName, Session, TxId
from orbit.protocol.values import pack, unpack
from orbit.state import State, from_input, migrated, rebuild
from orbit.store import types as t
from orbit.store.store import Store
from orbit.testing.noticing import NoticingLink

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that its State refused: its number within the client, code and text."""

    mid: int
    code: str
    message: str


class Job:
    """A transaction, as its test sees it.

    Attributes:
        id: Its id.
        name: For reports: the State and which of the bench's jobs it is.
    """

    def __init__(self, store: Store, link: NoticingLink, tx: TxId, cls: type[State], name: str) -> None:
        self.id: str = tx
        self.name = name
        self.clients: dict[str, TestClient] = {}
        self._store = store
        self._link = link
        self._tx = tx
        self._cls = cls

    # ---- looking

    async def status(self) -> str:
        """`pending`, `running`, `idle`, `finished`, `failed` or `cancelled`."""
        return (await self._get()).status

    async def updates(self, *, of: str | None = None) -> list[Any]:
        """The data of its updates so far, those for everybody; `of`: also those for that client alone."""
        name = None if of is None else self.clients[of].public
        return [
            unpack(entry.data)
            for entry in await self.log()
            if isinstance(entry, UpdateEntry) and entry.session in (None, name)
        ]

    async def log(self) -> list[Entry]:
        """All that its log holds."""
        found: list[Entry] = []
        after = START
        while True:
            page = await self._store.read_log(self._tx, after, _PAGE)
            if isinstance(page, t.Missing):
                raise NotFound("no such transaction")
            if isinstance(page, LogReset):
                found, after = [], page.cursor
                continue
            found += page.entries
            if not page.more:
                return found
            after = found[-1].cursor

    async def fields(self) -> State:
        """Its State as of the last commit that wrote the fields."""
        snapshot = await self._store.newest_snapshot(self._tx)
        if snapshot is None:
            raise NotFound("no snapshot is kept of what is over")
        version, written = snapshot
        if version != self._cls.__orbit__.version:
            return migrated(self._cls, version, written)
        first = (await self._get()).number == 0
        return (from_input if first else rebuild)(self._cls, written)

    async def view(self) -> Any:
        """What its `view` shows of these fields."""
        return (await self.fields()).view()  # type: ignore[attr-defined]

    async def traceback(self) -> str | None:
        """Where its `run` failed at last."""
        return (await self._get()).trace

    # ---- waiting

    async def result(self) -> Any:
        """Wait for its end; its result.

        Raises:
            TransactionFailed: It failed or was cancelled.
        """
        found = await self.ended()
        if found.status == "finished":
            return None if found.result is None else unpack(found.result)
        kind, text = (found.error.type, found.error.message) if found.error else (None, f"it was {found.status}")
        raise TransactionFailed(text, status=found.status, type=kind)

    async def ended(self) -> t.Transaction:
        """Wait for its end, however it ends."""
        await self._until(ENDED)
        return await self._get()

    async def until_idle(self) -> None:
        """Wait until it has nothing to do."""
        await self._until(("idle", *ENDED))

    async def until_updates(self, count: int) -> list[Any]:
        """Wait until it has sent so many updates; those so far."""


        async def sent() -> bool:
            return len(await self.updates()) >= count

        await self._link.until(sent)
        return await self.updates()

    # ---- speaking

    async def connect(self, name: str = "client", *, subject: str | None = None) -> TestClient:
        """Attach a client; the same name again is the same session, connected anew."""
        client = self.clients.get(name)
        if client is None:
            client = self.clients[name] = TestClient(self._store, self._tx, name, subject, self)
        await client.connect()
        return client

    async def send(self, data: Any) -> None:
        """A message without a session."""
        await _store(self._store, self._tx, t.NewMessage(pack(data)))

    async def cancel(self, reason: str = "") -> None:
        await self._store.cancel(self._tx, reason)

    async def retry(self) -> None:
        await self._store.retry(self._tx, secrets.token_hex(8))

    async def _until(self, statuses: Container[str]) -> None:
        async def reached() -> bool:  # a child may not have been started yet
            found = await self._store.get(self._tx)
            return found is not None and found.status in statuses

        await self._link.until(reached)

    async def _get(self) -> t.Transaction:
        found = await self._store.get(self._tx)
        if found is None:
            raise NotFound("no such transaction")
        return found


@dataclass
class TestClient:
    """A session of one transaction. Its messages are numbered by themselves."""

    __test__ = False  # it isn't a test

    store: Store
    tx: TxId
    name: str
    subject: str | None
    job: Job
    mid: int = 0
    place: t.Place | None = None
    public: PublicName = field(init=False)

    def __post_init__(self) -> None:
        self.public = self.store.public_name(self.tx, Session(self.name.rjust(16, "-")))

    async def connect(self) -> None:
        """Attach; the State hears of it, if it has a hook for that.

        Raises:
            Forbidden: The State barred this session.
        """
        self.place = t.Place("bench", self.name, secrets.token_hex(4))
        answer = await self.store.attach(self.tx, self.public, self.place, self.subject)
        if isinstance(answer, t.Barred):
            raise Forbidden(answer.message)

    async def disconnect(self) -> None:
        """Leave; the State hears of it after the grace."""
        if self.place is not None:
            await self.store.detach(self.tx, self.public, self.place)
            self.place = None

    async def send(self, data: Any) -> int:
        """Send a message; its number, once it is stored. What the State refuses shows in `refusals`.

        Raises:
            Ended, Forbidden, Overloaded: It wasn't stored.
        """
        new = t.NewMessage(pack(data), self.public, self.mid + 1, self.place, self.subject)
        await _store(self.store, self.tx, new)
        self.mid += 1
        return self.mid

    async def updates(self) -> list[Any]:
        """The data of the updates that this client gets."""
        return await self.job.updates(of=self.name)

    async def refusals(self) -> list[Refusal]:
        """Its messages that were refused."""
        return [
            Refusal(entry.mid, entry.code, entry.message)
            for entry in await self.job.log()
            if isinstance(entry, RefusalEntry) and entry.session == self.public
        ]


async def _store(store: Store, tx: TxId, message: t.NewMessage) -> None:
    match await store.append(tx, message):
        case t.Stored():
            return
        case t.Over(status):
            raise Ended(f"the transaction is {status}")
        case t.Barred(text):
            raise Forbidden(text)
        case t.InboxFull():
            raise Overloaded("the inbox is full")
        case t.Missing():
            raise NotFound("no such transaction")
        case answer:
            raise BadRequest(f"not stored: {type(answer).__name__}")


def end_of(log: list[Entry]) -> EndEntry | None:
    """The end that a log holds."""
    return next((entry for entry in reversed(log) if isinstance(entry, EndEntry)), None)
