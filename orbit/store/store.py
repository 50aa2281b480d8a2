"""The store: every verb is one atomic script or one atomic read, on one partition.

Only this package imports redis. Verbs raise `Unavailable` where certainly nothing was written, and `OutcomeUnknown` where a write
was sent and its answer never came (also when the awaiting task is cancelled, the write may be done).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import LogPage, LogReset
from orbit.protocol.ids import Epoch, InboxId, PublicName, Session, TxId
from orbit.store import types as t


class Store:
    """One deployment in one Redis."""

    settings: t.StoreSettings
    partitions: int

    @classmethod
    async def open(
        cls, url: str, settings: t.StoreSettings, *, wait: bool = False, say: Callable[[str], None] | None = None
    ) -> Store:
        """Connect and check: version, scripts and sharded pub/sub allowed, number of partitions (recorded at first use).

        wait: Redis isn't there: wait with backoff, `say` so once, instead of raising Unavailable.
        Raises StoreUnusable (one line that says what to do)."""
        raise NotImplementedError

    async def close(self) -> None: ...
    async def ping(self) -> None: ...
    def partition_of(self, tx: TxId) -> int: ...
    def public_name(self, tx: TxId, session: Session) -> PublicName: ...
    def derived_id(self, *parts: str) -> TxId:
        """An id derived from the deployment's secret and `parts` (a keyed start: subject, key)."""

    # applications
    async def start(self, new: t.NewTransaction) -> t.Started | t.Existed | t.Taken: ...
    async def append(
        self, tx: TxId, message: t.NewMessage
    ) -> t.Stored | t.WrongMid | t.InboxFull | t.NotPlace | t.Missing | t.Over | t.Barred: ...
    async def cancel(self, tx: TxId, reason: str) -> t.CancelSet | t.Missing | t.Over: ...
    async def get(self, tx: TxId) -> t.Transaction | None: ...
    async def list(
        self, *, state: str | None = None, status: str | None = None, limit: int = 100, page: str | None = None
    ) -> t.ListPage: ...
    async def sessions(self, tx: TxId, limit: int = 100) -> tuple[tuple[t.SessionRow, ...], int]:
        """The connected ones, at most `limit`, and how many there are in all."""
    async def states(self) -> tuple[t.StateRecord, ...]: ...

    # following
    async def attach(
        self, tx: TxId, session: PublicName, place: t.Place, subject: str | None
    ) -> t.AttachDone | t.Missing | t.Barred | t.NotPlace:
        """An ended transaction attaches, too (no place is taken). NotPlace: the session belongs to another subject."""
    async def detach(self, tx: TxId, session: PublicName, place: t.Place) -> bool:
        """Frees the place if it is still the caller's."""
    async def read_log(self, tx: TxId, after: Cursor, limit: int) -> LogPage | LogReset | t.Missing:
        """At most `limit` entries and max_page_bytes. Checks the cursor as Raft does (START is confirmed where nothing was trimmed)."""
    async def changed_since(self, partition: int, since_ms: int) -> tuple[int, dict[TxId, int]]:
        """(server's now in ms, commit number of each transaction that committed since): the *recent* set."""

    # workers
    async def claim(
        self, partition: int, worker: str, specs: Sequence[t.Spec], room: int, lease_ms: int, request: str
    ) -> tuple[t.Grant, ...]:
        """The most urgent ready ones. `request`: an id drawn by the caller; the same again returns the same grants."""
    async def load(self, tx: TxId, epoch: Epoch) -> t.Loaded | t.Fenced | t.Vanished: ...
    async def read_work(self, tx: TxId, after: InboxId | None, limit: int) -> t.Work | t.Missing: ...
    async def renew(self, partition: int, worker: str, held: Sequence[t.Held], lease_ms: int) -> t.Renewal: ...
    async def commit(self, commit: t.Commit) -> t.CommitAnswer: ...
    async def release(
        self, tx: TxId, epoch: Epoch, number: int, last_seen: InboxId | None, *, idle: bool, wake_in_ms: int | None = None
    ) -> t.Released | t.Fenced | t.Vanished:
        """Hand over (`idle=False`: ready at once) or put to sleep (idle, unless something waits: then ready).
        wake_in_ms: not before this long (the backoff of a retry): it waits in `due`."""
    async def due(self, partition: int, limit: int = 100) -> t.DueAnswer: ...
    async def remove(self, tx: TxId) -> bool: ...
    async def has_ready(self, partition: int, specs: Sequence[t.Spec]) -> bool: ...

    # registry
    async def publish_states(self, states: Sequence[t.StateRecord]) -> None: ...
    async def beat_worker(self, worker: t.WorkerRecord, ttl_s: float) -> None: ...
    async def forget_worker(self, worker: str) -> None: ...
    async def workers(self) -> tuple[t.WorkerRecord, ...]: ...
    async def beat_edge(self, edge: str, ttl_s: float) -> None: ...
    async def forget_edge(self, edge: str) -> None: ...
    async def sweep_edges(self) -> int:
        """Free the places of edges that stopped beating; any process may call it, several at once harm nothing. Returns how many."""

    # announcements
    async def tell_edge(self, edge: str, payload: bytes) -> None:
        """Publish on an edge's own channel (`replaced`, and its own probe)."""
