"""What is cancelled, retried, due, limited, scheduled."""

from __future__ import annotations

from dataclasses import dataclass

from orbit.protocol.ids import TxId
from orbit.store.types.refusals import Status
from orbit.store.types.starts import Outcome, Parent


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
