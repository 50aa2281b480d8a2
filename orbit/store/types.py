"""What goes into the store and what comes out: values, never raw replies.

Expected refusals are values here; what may be done or not is `OutcomeUnknown`, raised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import Failure
from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId
from orbit.store.durability import Durability

Status = Literal["pending", "running", "idle", "finished", "failed", "cancelled"]


# ---- refusals shared by several verbs


@dataclass(frozen=True, slots=True)
class Missing:
    """No such transaction: never started here, removed, or lost by Redis."""


@dataclass(frozen=True, slots=True)
class Over:
    """The transaction has ended, as `status`."""

    status: Status


@dataclass(frozen=True, slots=True)
class Barred:
    """The State barred this session, with this text."""

    message: str


@dataclass(frozen=True, slots=True)
class Crowded:
    """As many sessions are attached as may be."""


# ---- start


@dataclass(frozen=True, slots=True)
class NewTransaction:
    """A start. `fields` is the first snapshot (pydantic's JSON); `body_digest` tells a repeated start from another one.

    `connection_hooks`: the State has `on_new_connection` or `on_disconnect`, so changes of places are noted for it.
    """

    tx: TxId
    state: str
    version: int
    queue: str
    fields: bytes
    body_digest: str
    connection_hooks: bool
    keep_updates: int
    retain_s: float
    delay_s: float = 0.0
    at_ms: int | None = None
    """Not before this time of the server's clock, in ms since 1970; it goes before `delay_s`."""
    priority: int = 0
    parent: Parent | None = None
    lineage: str = ""
    """The names of the States from the first ancestor down to this one, with `/` between."""


@dataclass(frozen=True, slots=True)
class Parent:
    """Whose child a transaction is: the parent, and under which key it knows the child."""

    tx: TxId
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction ended. `result` is packed."""

    status: Status
    result: bytes | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Started:
    tx: TxId


@dataclass(frozen=True, slots=True)
class Existed:
    """The same start was done before; nothing was changed. `outcome`: how it stands by now."""

    tx: TxId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Taken:
    """The id is another start's; nothing was changed."""

    tx: TxId


# ---- sessions


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session is attached: an edge, a connection there, an attach on it. Its text is `edge/connection/attach`.

    The edge's and the connection's ids hold no slash.
    """

    edge: str
    connection: str
    attach: str

    def __str__(self) -> str:
        return f"{self.edge}/{self.connection}/{self.attach}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """The place that `text` names; None for the empty text (attached nowhere)."""
        if not text:
            return None
        edge, connection, attach = text.split("/")
        return cls(edge, connection, attach)


@dataclass(frozen=True, slots=True)
class AttachDone:
    """The session's place is the caller's now; `before` is the place that it took, if any.

    `attach`: the number of this attach, by which it may take its place again should Redis lose it.
    """

    before: Place | None
    head: Cursor
    number: int
    status: Status
    last_mid: int
    attach: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Newer:
    """A later attach of the session has had the place since. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    session: PublicName
    subject: str | None
    last_mid: int
    place: Place | None


# ---- inbox


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message for a State. Numbered by `session` and `mid`, or by a `key` (safe to repeat for 24 h), or by neither.

    `place` is where the session sent it from; a POST has none and needs none. `data` is packed.
    """

    data: bytes
    session: PublicName | None = None
    mid: int | None = None
    place: Place | None = None
    subject: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The message is in the inbox. `duplicate`: it was before."""

    duplicate: bool
    last_mid: int


@dataclass(frozen=True, slots=True)
class WrongMid:
    """Its predecessor isn't stored."""

    last_mid: int


@dataclass(frozen=True, slots=True)
class InboxFull:
    """No room for another unread message; `last_mid` is what is stored for its session (0 for none)."""

    last_mid: int


@dataclass(frozen=True, slots=True)
class NotPlace:
    """A newer attach holds the session's place."""


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A stored message, as its owner reads it. `place`: where its session stood when it was stored, None for a POST."""

    id: InboxId
    session: PublicName | None
    mid: int | None
    subject: str | None
    place: str
    data: bytes


@dataclass(frozen=True, slots=True)
class FiredTimer:
    """A timer of `set_timer` that is due. It counts only if `member` still is what its name stands for."""

    id: InboxId
    member: str


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended. `field` is where it stands in the outbox."""

    id: InboxId
    field: str
    outcome: Outcome


Incoming = InboxEntry | FiredTimer | ChildEnd


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A session whose place (`""`: detached) isn't the one that the State was told (`""`: gone; None: never told)."""

    session: PublicName
    place: str
    told: str | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class Work:
    """What waits for a transaction's owner, read in one instant.

    `incoming`: messages, timers and ends of children, in order.
    `told`: for each session of a message here, the place that the State was told last (None: never).
    `changes` are those that are due; `next_change_ms`: in how many ms another one will be.
    `lost`: Redis lost the entry that was seen last, so what was seen before it may be lost, too.
    """

    number: int
    epoch: Epoch
    cancel: str | None
    incoming: tuple[Incoming, ...]
    more: bool
    changes: tuple[SessionChange, ...]
    next_change_ms: int | None
    told: dict[PublicName, str | None]
    lost: bool = False


# ---- grants


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker can run: a State's snapshots of one version, on one queue."""

    queue: str
    state: str
    version: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A transaction handed to one worker under a new epoch.

    `crashed`: the lease before ran out, unreleased. `crashes`: how often that was, without progress since.
    `loaded`: what `load` would say, where it isn't too large. `quiet`: nothing waited for it in that instant.
    """

    tx: TxId
    epoch: Epoch
    number: int
    spec: Spec
    crashed: bool
    crashes: int = 0
    loaded: Loaded | None = field(default=None, compare=False)
    quiet: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fields as of a commit."""

    version: int
    fields: bytes
    number: int
    head: Cursor


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that a worker needs to go on with a transaction, read in one instant under its grant."""

    number: int
    head: Cursor
    snapshot: Snapshot
    view_head: Cursor | None
    names: dict[str, bytes]
    run_returned: bool
    passes: int
    attempts: int
    crashes: int
    cancel: str | None
    keep_updates: int
    noted: InboxId | None
    timers: dict[str, int | None]
    """By member: in how many ms, None for one that stands in the inbox."""
    children: tuple[str, ...]
    """The outbox's fields of children whose end hasn't been taken."""
    parent: Parent | None
    lineage: str
    elapsed_ms: int
    """Since it was claimed for the first time."""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker believes that it holds: for renewals. `number` is the last commit that it knows of."""

    tx: TxId
    epoch: Epoch
    number: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """`lost`: no more held. `waiting`: held, with unread entries or changes due. `cancelled`: held, to be cancelled."""

    lost: frozenset[TxId]
    waiting: frozenset[TxId]
    cancelled: frozenset[TxId]


# ---- commit


@dataclass(frozen=True, slots=True)
class NewUpdate:
    """`data` packed; for `session` alone where that is given."""

    data: bytes
    session: PublicName | None = None


@dataclass(frozen=True, slots=True)
class NewRefusal:
    session: PublicName
    mid: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NewEnd:
    """How a transaction ends. `trace` is kept for operators and reaches no client."""

    status: Literal["finished", "failed", "cancelled"]
    result: bytes | None = None
    error: Failure | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """All that a turn did. Its encoding follows from its value alone: an equal value again sends the same bytes.

    Attributes:
        number: The commit number that the log must be at.
        entries: Updates and refusals, in order.
        snapshot: The fields, where they changed. `view` packed, where it is made anew.
        names / forgotten: What is recorded under a name (scope included) / what is no more.
        consumed: Inbox entries that this turn answered.
        told: Sessions and the places that the State has been told by now (`""`: gone).
        barred: Sessions barred until the end, with the text for them.
        progressed: Sets the counts of attempts and crashes back.
        attempts: Sets the count of failed attempts of `run`.
        run_returned / passes: `run` has returned / was restarted so many times; None: as before.
        note: The message that an isolated process begins (`""`: none); None: as before.
        timers / dropped_timers: Times, as (member, ms from now) / what counts no more.
        outbox / taken: What is to be done elsewhere, as (field, value) / fields of children whose end this turn took.
        lease_ms: How long the lease is extended from now; 0: as it is.
    """

    tx: TxId
    epoch: Epoch
    number: int
    entries: tuple[NewUpdate | NewRefusal, ...] = ()
    snapshot: bytes | None = None
    version: int = 1
    view: bytes | None = None
    names: tuple[tuple[str, bytes], ...] = ()
    forgotten: tuple[str, ...] = ()
    consumed: tuple[InboxId, ...] = ()
    told: tuple[tuple[PublicName, str], ...] = ()
    barred: tuple[tuple[PublicName, str], ...] = ()
    progressed: bool = False
    attempts: int | None = None
    run_returned: bool | None = None
    passes: int | None = None
    note: str | None = None
    timers: tuple[tuple[str, int], ...] = ()
    dropped_timers: tuple[str, ...] = ()
    outbox: tuple[tuple[str, bytes], ...] = ()
    taken: tuple[str, ...] = ()
    end: NewEnd | None = None
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """Written. `cancel`: the reason of a cancel that was asked for, None: none. `unread`: the inbox isn't empty."""

    number: int
    head: Cursor
    cancel: str | None
    unread: bool


@dataclass(frozen=True, slots=True)
class Repeated:
    """Written before by this very commit, whose reply was lost."""

    number: int
    head: Cursor
    cancel: str | None
    unread: bool


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another epoch holds the transaction, or this one released it. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Rewound:
    """Redis lost writes: the number is another one, or a consumed entry isn't there. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Vanished:
    """No such transaction: lost or removed. Nothing was written."""


CommitAnswer = Done | Repeated | Fenced | Rewound | Vanished


@dataclass(frozen=True, slots=True)
class Released:
    """No more held; `status` is `pending` (ready for another worker), or `idle`."""

    status: Literal["pending", "idle"]


# ---- cancel, retry, due


@dataclass(frozen=True, slots=True)
class CancelSet:
    """Certain to happen: the flag is set (or it ended at once)."""

    status: Status


@dataclass(frozen=True, slots=True)
class Retried:
    """It goes on from its last snapshot; `status` is what it is by now."""

    status: Status


@dataclass(frozen=True, slots=True)
class NotFailed:
    """Only what has failed is retried; nothing was changed."""

    status: Status


@dataclass(frozen=True, slots=True)
class DueAnswer:
    """What `due` found, and what is left to its caller.

    Attributes:
        now_ms: The server's clock.
        next_ms: In how many ms the partition next needs `due`, None for never.
        removable: Past their retention.
        undelivered: Something is in their outbox.
        fires: Schedules by name, and when each was to fire.
        admitted: Limits, and who got a permit of each: they are to be roused.
    """

    now_ms: int
    next_ms: int | None
    done: int
    removable: tuple[TxId, ...] = ()
    undelivered: tuple[TxId, ...] = ()
    fires: tuple[tuple[str, int], ...] = ()
    admitted: tuple[tuple[str, TxId], ...] = ()


@dataclass(frozen=True, slots=True)
class Outbox:
    """What a transaction wants done elsewhere. `parent`: to be told of its end. `children`: fields of their starts."""

    number: int
    outcome: Outcome
    parent: Parent | None
    children: tuple[str, ...]
    cancels: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit for the whole fleet. `most` at a time (0: any number); `gap_ms` between two that begin (0: none)."""

    name: str
    most: int = 0
    gap_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Permit:
    """`held`: the asker has a permit. `admitted`: others that got one meanwhile, and are to be roused."""

    held: bool
    admitted: tuple[TxId, ...]


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule as it is kept: its record's text, and when it fires next, in ms."""

    name: str
    record: str
    next_ms: int


# ---- looking


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as listings show it. Times are milliseconds since 1970 by the server's clock.

    `result` is packed. `trace` and `cancel_reason` are for operators.
    """

    tx: TxId
    state: str
    version: int
    queue: str
    status: Status
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    head: Cursor
    number: int
    epoch: Epoch
    owner: str
    attempts: int
    crashes: int
    result: bytes | None
    error: Failure | None
    trace: str | None
    cancel_reason: str | None
    waits: str | None = None
    """The limit that it waits for."""
    parent: TxId | None = None
    parent_key: str | None = None
    """Under which key its parent knows it."""


@dataclass(frozen=True, slots=True)
class ListPage:
    transactions: tuple[Transaction, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A State as the workers publish it: what an edge needs to start one without its code.

    `schema` is the JSON Schema of the input, `defaults` nothing: the worker validates and fills in. `live` counts the
    workers that run it now.
    """

    name: str
    version: int
    queue: str
    schema: str
    connection_hooks: bool
    keep_updates: int
    retain_s: float
    live: int = 0


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as its peers rank it. `room`: how many more transactions it would take."""

    id: str
    specs: tuple[Spec, ...]
    room: int


# ---- announcements


@dataclass(frozen=True, slots=True)
class ReadyWake:
    """On a partition's wake channel: something became ready."""

    partition: int
    spec: Spec


@dataclass(frozen=True, slots=True)
class DueWake:
    """On a partition's wake channel: `due` is needed in `in_ms`."""

    partition: int
    in_ms: int


@dataclass(frozen=True, slots=True)
class OwnerNudge:
    """On a worker's channel: look at this transaction (`message`, `change`, `cancel`)."""

    tx: TxId
    why: str


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the scripts enforce. `namespace` begins every key."""

    namespace: str = "orbit"
    partitions: int | None = None
    """Recorded at a deployment's first use (None: 256, or whatever is recorded); checked afterwards."""
    durability: Durability | None = None
    """As `partitions`; None: `memory`, or whatever is recorded."""
    inbox_messages: int = 1_000
    sessions: int = 0
    """Attached to one transaction at a time; 0: any number."""
    session_retain_s: float = 86_400.0
    grace_s: float = 5.0
    snapshots_kept: int = 3
    timeout_s: float = 5.0
    """How long a command may take before its outcome is unknown."""
    max_page_bytes: int = 4 * 1024 * 1024
