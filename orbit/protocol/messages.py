"""The messages of the WebSocket protocol, as values.

What a client says and what an edge answers, field by field as protocol.md names them. `data`, `view` and `result` are
plain values here (JSON values plus bytes). A field that is absent on the wire is None, or `ABSENT` where null is a
value of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""A field that isn't there, where null would be a value."""

Value = Any
"""None, bool, int (signed 64 bits), float (finite), str, bytes, list or dict with text keys."""


# ---- from the client


@dataclass(frozen=True, slots=True)
class Attach:
    type: ClassVar[str] = "attach"
    tx: str
    after: str = "0"
    session: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """`mid` is a positive integer by the time this value exists."""

    type: ClassVar[str] = "send"
    tx: str
    mid: int
    data: Value


@dataclass(frozen=True, slots=True)
class Cancel:
    type: ClassVar[str] = "cancel"
    tx: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Detach:
    type: ClassVar[str] = "detach"
    tx: str


@dataclass(frozen=True, slots=True)
class Ping:
    type: ClassVar[str] = "ping"
    nonce: Value | Absent = ABSENT


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that was read but means nothing: to be answered with `error`, its `code` and its `op`.

    `op`, `tx` and `mid` are what could be told of it, None where it couldn't; `tx` is None wherever `op` is. A `send`
    whose `tx` and `mid` are known was certainly not stored, so its answer is a `rejected` without cursor.
    """

    op: str | None
    tx: str | None
    mid: int | None
    message: str
    code: str = "bad_request"


ClientMessage = Attach | Send | Cancel | Detach | Ping


# ---- from the edge


@dataclass(frozen=True, slots=True)
class Attached:
    type: ClassVar[str] = "attached"
    tx: str
    session: str
    cursor: str
    status: str
    last_mid: int


@dataclass(frozen=True, slots=True)
class Update:
    type: ClassVar[str] = "update"
    tx: str
    cursor: str
    data: Value


@dataclass(frozen=True, slots=True)
class Reset:
    type: ClassVar[str] = "reset"
    tx: str
    cursor: str
    reason: str
    view: Value
    last_mid: int


@dataclass(frozen=True, slots=True)
class Advance:
    type: ClassVar[str] = "advance"
    tx: str
    cursor: str


@dataclass(frozen=True, slots=True)
class Receipt:
    type: ClassVar[str] = "receipt"
    tx: str
    mid: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    type: ClassVar[str] = "rejected"
    tx: str
    mid: int
    code: str
    message: str
    retry_after_ms: int | None = None
    last_mid: int | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """`error` is `{"type", "message"}`."""

    type: ClassVar[str] = "end"
    tx: str
    cursor: str
    status: str
    result: Value | Absent = ABSENT
    error: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Error:
    type: ClassVar[str] = "error"
    code: str
    message: str
    tx: str | None = None
    op: str | None = None
    mid: int | None = None
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    type: ClassVar[str] = "cancelled"
    tx: str


@dataclass(frozen=True, slots=True)
class Detached:
    type: ClassVar[str] = "detached"
    tx: str


@dataclass(frozen=True, slots=True)
class GoAway:
    type: ClassVar[str] = "goaway"
    reconnect_after_ms: int


@dataclass(frozen=True, slots=True)
class Pong:
    type: ClassVar[str] = "pong"
    nonce: Value | Absent = ABSENT


EdgeMessage = (
    Attached | Update | Reset | Advance | Receipt | Rejected | End | Error | Cancelled | Detached | GoAway | Pong
)
