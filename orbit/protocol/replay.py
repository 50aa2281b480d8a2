"""The replay merge: one log, read in pages and heard live, becomes one ordered stream for each follower.

A process that watches a transaction holds one `Feed` for it: the newest place of the log that it knows of. Each
follower holds a `Tail`: its own place. Both move along the log by cursors alone, as Raft extends a log: entries are
taken where the entry before them is the very one that is held (same seq, same epoch); everything else is settled by
reading the log, which confirms a cursor or answers with a reset. So loss, repeats and reordering on the live channel
cost a read and nothing more, and a log that Redis took back shows as a `LogReset`.

A driver does the reading:

* each live message goes to `Feed.on_live`; the `Batch` that comes back goes to every tail that is live;
* while `Feed.needs_read`: read the log after `begin_read()` and give the answer to `on_page`, `on_reset` or
  `read_failed`. A reset goes to every live tail, too: they stand where the feed stood;
* a tail that isn't live asks `Feed.since`; where that is None it reads a page of its own. Where a page without `more`
  leaves it still unjoined, the feed is told to `suspect`: one of the two is behind.

A live tail stands where its feed stands, always.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import ENDED, EndEntry, Entry, LiveMessage, LogPage, LogReset, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Epoch, PublicName

RECENT_ENTRIES = 256
RECENT_BYTES = 256 * 1024
"""What a feed keeps of what it relayed, so that a tail that has just read the log joins without chasing it."""

PENDING_ENTRIES = 4096
PENDING_BYTES = 4 * 1024 * 1024
"""What a feed keeps of the live messages that arrive while it reads the log."""


def entry_bytes(entry: Entry) -> int:
    """About what an entry takes in memory."""
    match entry:
        case UpdateEntry():
            return 200 + len(entry.data)
        case EndEntry():
            return 200 + len(entry.result or b"")
        case RefusalEntry():
            return 200 + len(entry.message)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Entries that follow `previous`, one after the other, in one history.

    Attributes:
        over: The last entry is an end, and it stood when this was known: no retry had undone it.
        plain: Every entry is for every follower.
    """

    previous: Cursor
    entries: tuple[Entry, ...]
    over: bool
    plain: bool = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        last = len(self.entries) - 1
        plain = all(
            entry.session is None if isinstance(entry, UpdateEntry) else self.over and i == last
            for i, entry in enumerate(self.entries)
        )
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "size", sum(map(entry_bytes, self.entries)))

    @property
    def head(self) -> Cursor:
        return self.entries[-1].cursor if self.entries else self.previous

    def slices(self, limit_bytes: int) -> Iterator[Batch]:
        """The same in parts that follow one another, each of one entry or of at most `limit_bytes`."""
        if self.size <= limit_bytes:
            yield self
            return
        previous, first, size = self.previous, 0, 0
        for n, entry in enumerate(self.entries):
            size += entry_bytes(entry)
            if n > first and size > limit_bytes:
                yield Batch(previous, self.entries[first:n], over=False)
                previous, first, size = self.entries[n - 1].cursor, n, entry_bytes(entry)
        yield Batch(previous, self.entries[first:], self.over)


def _ends(entries: tuple[Entry, ...], status: str) -> bool:
    return bool(entries) and status in ENDED and isinstance(entries[-1], EndEntry)


class Feed:
    """What one process knows of one log's end. Begins with an answer that was read after subscribing the live channel.

    Attributes:
        head: The newest entry known.
        number: The commit number that went with it.
        status: The transaction's status then.
    """

    __slots__ = (
        "_epoch", "_pending", "_pending_bytes", "_reading", "_recent", "_recent_bytes", "_suspect",
        "head", "number", "status",
    )  # fmt: skip

    def __init__(self, head: Cursor, number: int, status: str) -> None:
        self.head = head
        self.number = number
        self.status = status
        self._epoch = Epoch("")
        self._suspect = False
        self._reading = False
        self._pending: list[LiveMessage] = []
        self._pending_bytes = 0
        self._recent: deque[Batch] = deque()
        self._recent_bytes = 0

    @property
    def stale(self) -> bool:
        """The log is being read or has to be: `head` may be behind."""
        return self._suspect or self._reading

    @property
    def over(self) -> bool:
        """The transaction had ended."""
        return self.status in ENDED

    @property
    def needs_read(self) -> bool:
        return self._suspect and not self._reading

    # ---- live

    def on_live(self, message: LiveMessage) -> Batch | None:
        """What to relay of `message`. None: nothing, now; see `needs_read`."""
        if self.stale:
            self._keep(message)
            return None
        return self._apply(message)

    def suspect(self) -> None:
        """Something may have been missed: the log is to be read once more."""
        self._suspect = True

    def _keep(self, message: LiveMessage) -> None:
        self._pending_bytes += sum(map(entry_bytes, message.entries)) + 200
        if len(self._pending) >= PENDING_ENTRIES or self._pending_bytes > PENDING_BYTES:
            self._drop_pending()
            self._suspect = True
        else:
            self._pending.append(message)

    def _drop_pending(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0

    def _apply(self, message: LiveMessage) -> Batch | None:
        if message.number <= self.number and message.epoch in (self._epoch, self.head.epoch):
            return None  # an old one: what was written under an epoch of this history, up to here, is in this history
        whole = message.head == (message.entries[-1].cursor if message.entries else message.previous)
        backwards = message.number <= self.number and not message.entries
        if message.previous != self.head or not whole or backwards:
            self._suspect = True
            return None
        self.number, self.status, self._epoch = message.number, message.status, message.epoch
        return self._push(message.entries, message.status) if message.entries else None

    def _push(self, entries: tuple[Entry, ...], status: str) -> Batch:
        batch = Batch(self.head, entries, _ends(entries, status))
        self.head = batch.head
        self._recent.append(batch)
        self._recent_bytes += batch.size
        while self._recent and (len(self._recent) > RECENT_ENTRIES or self._recent_bytes > RECENT_BYTES):
            self._recent_bytes -= self._recent.popleft().size
        return batch

    # ---- the log

    def begin_read(self) -> Cursor:
        """The log is to be read after this cursor; exactly one of the three below takes the answer."""
        self._reading, self._suspect = True, False
        self._drop_pending()  # what was heard before the log is read is in what is read, or lost
        return self.head

    def on_page(self, page: LogPage) -> tuple[Batch, ...]:
        """What to relay, in order: what was read, then what was heard meanwhile."""
        self._reading = False
        if page.number != self.number:
            self._epoch = Epoch("")
        self.number, self.status = page.number, page.status
        batches = [self._push(page.entries, "" if page.more else page.status)] if page.entries else []
        if page.more:
            self._suspect = True
            return tuple(batches)
        batches += [batch for message in self._pending if (batch := self._apply(message))]
        self._drop_pending()
        return tuple(batches)

    def on_reset(self, reset: LogReset) -> None:
        """The log doesn't hold `head`: start from the reset's cursor, and read on."""
        self._reading, self._suspect = False, True
        self.head, self.number, self.status = reset.cursor, reset.number, reset.status
        self._epoch = Epoch("")
        self._recent.clear()
        self._recent_bytes = 0

    def read_failed(self) -> None:
        """The answer didn't come; it is still to be read."""
        self._reading, self._suspect = False, True

    # ---- joining

    def since(self, position: Cursor) -> Batch | None:
        """What a tail at `position` needs to stand at `head` (perhaps nothing). None: not known here, read the log."""
        if position == self.head:
            return Batch(position, (), over=False)
        if self.stale:
            return None  # what is kept may be what Redis has lost
        entries: list[Entry] = []
        for batch in reversed(self._recent):
            entries[:0] = batch.entries
            if batch.previous == position:
                return Batch(position, tuple(entries), _ends(tuple(entries), self.status))
            if any(entry.cursor == position for entry in batch.entries):
                later = tuple(entries)[[entry.cursor for entry in entries].index(position) + 1 :]
                return Batch(position, later, _ends(later, self.status))
        return None


class Tail:
    """One follower's place in a log, and what it is to be told.

    Attributes:
        position: The last entry that it was given, or that wasn't for it.
        ended: It was given an end: nothing more comes.
    """

    __slots__ = ("_told", "ended", "position", "session")

    def __init__(self, position: Cursor, session: PublicName | None) -> None:
        self.position = position
        self.session = session
        self.ended = False
        self._told = position

    def on_batch(self, batch: Batch) -> tuple[Entry, ...] | None:
        """The entries to tell, in order. None: the batch doesn't begin at its place; read the log."""
        if batch.previous != self.position:
            return None
        if batch.plain:
            return self._move(batch.head, batch.entries)
        mine = [entry for entry in batch.entries[:-1] if self._concerns(entry, standing=False)]
        mine += [entry for entry in batch.entries[-1:] if self._concerns(entry, standing=batch.over)]
        return self._move(batch.head, tuple(mine))

    def on_page(self, page: LogPage) -> tuple[Entry, ...]:
        """The entries to tell of a page that was read after `position`. An end that something follows was undone."""
        over = not page.more and _ends(page.entries, page.status)
        told = self.on_batch(Batch(self.position, page.entries, over))
        assert told is not None
        return told

    def on_reset(self, reset: LogReset) -> None:
        """Tell the reset; what follows its cursor comes next."""
        self.position = self._told = reset.cursor

    def step_back(self) -> None:
        """Go on from what the follower was told last: what lies between wasn't for it."""
        self.position = self._told

    @property
    def lags(self) -> bool:
        """What the follower was told last lies before its position."""
        return self.position != self._told

    def take_advance(self) -> Cursor | None:
        """The place to tell a follower that was told nothing of the newest entries; None where it knows."""
        if self.position == self._told:
            return None
        self._told = self.position
        return self.position

    def _concerns(self, entry: Entry, *, standing: bool) -> bool:
        match entry:
            case UpdateEntry():
                return entry.session is None or entry.session == self.session
            case RefusalEntry():
                return entry.session == self.session
            case EndEntry():
                return standing

    def _move(self, head: Cursor, told: tuple[Entry, ...]) -> tuple[Entry, ...]:
        self.position = head
        if told:
            self._told = told[-1].cursor
            self.ended = isinstance(told[-1], EndEntry)
        return told
