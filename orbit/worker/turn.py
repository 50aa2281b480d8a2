"""What a turn did, gathered while it runs, and the commit that it becomes. Plain values: no loop, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from orbit.protocol.entries import Failure
from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId
from orbit.store.types import Commit, NewEnd, NewRefusal, NewUpdate


@dataclass(slots=True)
class Turn:
    """Everything but the fields. A step's result and its progress are such turns, too: commits without fields.

    Attributes:
        over: Timers that have served: they go with the next commit, and cause none.
        gave_up: It refuses a message for the crashes that it caused, which is no progress.
    """

    entries: list[NewUpdate | NewRefusal] = field(default_factory=list)
    names: dict[str, bytes] = field(default_factory=dict)
    forgotten: tuple[str, ...] = ()
    consumed: list[InboxId] = field(default_factory=list)
    told: list[tuple[PublicName, str]] = field(default_factory=list)
    barred: list[tuple[PublicName, str]] = field(default_factory=list)
    end: NewEnd | None = None
    attempts: int | None = None
    passes: int | None = None
    run_returned: bool | None = None
    note: str | None = None
    timers: dict[str, int] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    outbox: dict[str, bytes] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    gave_up: bool = False

    @property
    def sent(self) -> bool:
        """Whether anything was sent, or decided, that a step must not come after."""
        return bool(
            self.entries or self.names or self.barred or self.end or self.timers or self.dropped or self.outbox
        )

    @property
    def empty(self) -> bool:
        return not (self.sent or self.forgotten or self.consumed or self.told or self.taken) and (
            self.attempts is None and self.passes is None and self.run_returned is None and self.note is None
        )

    @property
    def progress(self) -> bool:
        """Whether a crash after it isn't one more of those before it."""
        handled = bool(self.consumed) and not self.gave_up
        return bool(handled or self.names or self.passes is not None or self.timers or self.outbox)

    @property
    def updates(self) -> int:
        return len(self.entries)


@dataclass(frozen=True, slots=True)
class Fields:
    """What a turn leaves of the fields.

    `changed`: where they aren't those of the last commit, what they are now. `snapshot`: to be written with this
    commit; `view` likewise, packed.
    """

    changed: bytes | None = None
    snapshot: bytes | None = None
    view: bytes | None = None


NO_FIELDS = Fields()


@dataclass(frozen=True, slots=True)
class Base:
    """Where the history stands: what every commit names."""

    tx: TxId
    epoch: Epoch
    number: int
    version: int


def to_commit(base: Base, turn: Turn, fields: Fields, lease_ms: int) -> Commit | None:
    """The commit of `turn`, or None where nothing is to be written: an empty turn costs nothing."""
    if turn.empty and fields.changed is None and fields.snapshot is None:
        return None
    return Commit(
        tx=base.tx,
        epoch=base.epoch,
        number=base.number,
        version=base.version,
        entries=tuple(turn.entries),
        snapshot=fields.snapshot,
        view=fields.view,
        names=tuple(turn.names.items()),
        forgotten=turn.forgotten,
        consumed=tuple(turn.consumed),
        told=tuple(turn.told),
        barred=tuple(turn.barred),
        progressed=fields.changed is not None or turn.progress,
        attempts=turn.attempts,
        run_returned=turn.run_returned,
        passes=turn.passes,
        note=turn.note,
        timers=tuple(turn.timers.items()),
        dropped_timers=(*turn.dropped, *turn.over),
        outbox=tuple(turn.outbox.items()),
        taken=tuple(turn.taken),
        end=turn.end,
        lease_ms=lease_ms,
    )


def failed(kind: str, message: str, trace: str | None = None) -> NewEnd:
    """The end of a transaction that failed: `kind` and `message` reach its clients, `trace` its operators."""
    return NewEnd("failed", error=Failure(kind, message), trace=trace)
