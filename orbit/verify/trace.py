"""What a client did and saw, in order, and what is found wrong with it: the judge's material and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]
What = Literal["open", "sent", "got", "closed"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened on the connection number `conn` of a client, `at` seconds on its loop's clock.

    `message` is what was sent or got; for `open` its `url`, for `closed` its `code` and `reason`.
    """

    at: float
    conn: int
    what: What
    message: Message


@dataclass(slots=True)
class Trace:
    """All events of one client."""

    name: str
    events: list[Event] = field(default_factory=list)

    def add(self, at: float, conn: int, what: What, message: Message) -> None:
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


def seq_of(cursor: str) -> int:
    """The seq in a cursor. A client must not look; who judges the log may."""
    return int(cursor.partition("-")[0])


def epoch_of(cursor: str) -> str:
    """The epoch in a cursor: under which grant its entry was written. All are of one length, so text compares."""
    return cursor.partition("-")[2]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as promised.

    `who` is the client or the session that shows it, `tx` the transaction where there is one, `at` when (on the clock
    of its trace), None where it shows at the end only.
    """

    what: str
    who: str = ""
    tx: str = ""
    at: float | None = None

    def __str__(self) -> str:
        place = f"{self.who}: " if self.who else ""
        place += f"{self.tx}: " if self.tx else ""
        return f"{place}{self.what}" if self.at is None else f"{place}at {self.at:.3f}: {self.what}"
