"""Who runs what, and what it needs to go on."""

from __future__ import annotations

from dataclasses import dataclass, field

from orbit.protocol.cursors import Cursor
from orbit.protocol.ids import Epoch, InboxId, TxId
from orbit.store.types.starts import Parent


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
