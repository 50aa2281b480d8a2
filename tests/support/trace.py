"""What a client did and saw, in order: the material that the checker judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened on the connection number `conn` of a client, `at` seconds on its loop's clock.

    `message` is what was sent or got; for `open` its `url`, for `closed` its `code` and `reason`.
    """

    at: float
    conn: int
    what: Literal["open", "sent", "got", "closed"]
    message: Message


@dataclass(slots=True)
class Trace:
    """All events of one client."""

    name: str
    events: list[Event] = field(default_factory=list)

    def add(self, at: float, conn: int, what: Literal["open", "sent", "got", "closed"], message: Message) -> None:
        self.events.append(Event(at, conn, what, message))


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a log, as one session sees it.

    `kind`: `update` (`body`: its data), `rejected` (its mid and code), `end` (its status).
    """

    cursor: str
    kind: str
    body: Any


def entry_of(message: Message) -> LogEntry | None:
    """The log entry that a message from an edge tells, None where it tells none."""
    match message["type"]:
        case "update":
            return LogEntry(message["cursor"], "update", message["data"])
        case "rejected" if "cursor" in message:
            return LogEntry(message["cursor"], "rejected", (message["mid"], message["code"]))
        case "end":
            return LogEntry(message["cursor"], "end", message["status"])
    return None
