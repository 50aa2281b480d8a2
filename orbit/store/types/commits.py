"""What a turn did, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import Failure
from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId


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
