"""What waits for a State."""

from __future__ import annotations

from dataclasses import dataclass

from orbit.protocol.ids import Epoch, InboxId, PublicName
from orbit.store.types.sessions import Place
from orbit.store.types.starts import Outcome


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
