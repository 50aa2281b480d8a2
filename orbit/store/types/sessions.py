"""Sessions and where they are attached."""

from __future__ import annotations

from dataclasses import dataclass, field

from orbit.protocol.cursors import Cursor
from orbit.protocol.ids import PublicName
from orbit.store.types.refusals import Status


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
