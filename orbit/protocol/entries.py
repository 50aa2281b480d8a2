"""Log entries and live messages: what a commit leaves behind, as the edges read it.

`data`, `result` and `view` stand here as packed MessagePack bytes: whoever relays them packs nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from orbit.protocol.cursors import Cursor
from orbit.protocol.ids import Epoch, PublicName

ENDED = frozenset({"finished", "failed", "cancelled"})
"""The statuses of a transaction that is over."""


@dataclass(frozen=True, slots=True)
class UpdateEntry:
    """One update; for `session` alone where that is given."""

    cursor: Cursor
    data: bytes
    session: PublicName | None = None


@dataclass(frozen=True, slots=True)
class RefusalEntry:
    """A stored message that the State refused, or that the end met unread: for its session alone."""

    cursor: Cursor
    session: PublicName
    mid: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a transaction failed, as its clients may know it. Never a traceback."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class EndEntry:
    """The end. Nothing comes after it, unless a failed transaction is retried."""

    cursor: Cursor
    status: str
    result: bytes | None = None
    error: Failure | None = None


Entry = UpdateEntry | RefusalEntry | EndEntry


@dataclass(frozen=True, slots=True)
class LiveMessage:
    """One commit, as it is announced on a transaction's live channel.

    `previous` and `previous_number` say what the log ended with before it: an edge that holds just that may relay
    `entries`; any other reads the log. Without entries it tells a status that changed.
    """

    number: int
    epoch: Epoch
    previous_number: int
    previous: Cursor
    entries: tuple[Entry, ...]
    head: Cursor
    status: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries of a log after a cursor that the log confirmed.

    `number`, `head` and `status` were read in the same instant as the entries. `more` is true where the log goes on
    after the last entry of this page.
    """

    entries: tuple[Entry, ...]
    number: int
    head: Cursor
    status: str
    more: bool


@dataclass(frozen=True, slots=True)
class LogReset:
    """The log doesn't confirm the cursor: start from `view`, then from the entries after `cursor`.

    `reason` is `trimmed` or `rewound`; `view` is None where the State has none, and `cursor` is then the last trimmed
    entry's (`START` where nothing was trimmed), so that the oldest kept entries follow.
    """

    cursor: Cursor
    reason: str
    view: bytes | None
    number: int
    head: Cursor
    status: str
