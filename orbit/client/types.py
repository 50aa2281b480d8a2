"""What applications see of transactions, over Redis and over HTTP alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orbit.errors import TransactionFailed
from orbit.protocol.entries import ENDED
from orbit.protocol.messages import Value


@dataclass(frozen=True, slots=True)
class TransactionError:
    """Why a transaction failed, as its clients may know it."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """One transaction, as of one moment.

    Attributes:
        cursor / commit: The head of its log, its commit number.
        waiting_for: What a pending one waits for that isn't there: `worker`, or `limit` and its name.
        traceback: Where its `run` failed at last; over Redis alone, never through an edge.
        parent: The transaction that started it, over Redis alone.
    """

    id: str
    state: str
    version: int
    queue: str
    status: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cursor: str
    commit: int
    epoch: str
    attempts: int
    result: Value = None
    error: TransactionError | None = None
    waiting_for: str | None = None
    traceback: str | None = None
    parent: str | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended, however."""
        return self.status in ENDED

    def outcome(self) -> Value:
        """The result of a finished one.

        Raises:
            TransactionFailed: It failed or was cancelled.
        """
        if self.status == "finished":
            return self.result
        error = self.error or TransactionError(self.status, f"the transaction was {self.status}")
        raise TransactionFailed(error.message, status=self.status, type=error.type)


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """Some transactions, newest first; `next` names the page after, None where this is the last."""

    transactions: tuple[TransactionInfo, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class StateInfo:
    """A State that workers run or ran; `schema` is the JSON Schema of its input."""

    name: str
    version: int
    queue: str
    workers: int
    schema: Any


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A State that is started again and again. `next_at`: when it is next."""

    name: str
    state: str
    input: Mapping[str, Any]
    cron: str
    tz: str
    queue: str | None
    priority: int
    next_at: datetime


def moment(ms: int) -> datetime:
    """The time of so many milliseconds since 1970, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)
