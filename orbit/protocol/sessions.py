"""A client's side of a session: which messages are stored, which are to be sent, which are lost.

One `ClientSession` stands for one session in one transaction, over all its connections. It holds the messages without
a receipt, in order; their mids are dense and follow the highest receipt:

    queue     m1  m2  m3  m4  m5        mid = stored + 1 + place
              └─ sent ─┘  └ not yet ┘

Two rules of the protocol are kept by it. A message of which a copy *may be stored* is pinned: it keeps its mid and its
content until a receipt or the next `attached` says. And a mid gets other content only when every copy that went out on
this connection has been answered (`_moved`); each copy is remembered (`_flight`), so that no answer is taken for
another message's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from orbit.protocol.cursors import NEW_ONLY
from orbit.protocol.messages import (
    Advance,
    Attach,
    Attached,
    EdgeMessage,
    End,
    Error,
    Receipt,
    Rejected,
    Reset,
    Send,
    Update,
    Value,
)

WINDOW: Final = 100
"""How many messages may be under way unanswered."""
RETRY_S: Final = 1.0
"""When to send again, where the refusal doesn't say."""
FOLLOWER_RETRY_S: Final = 0.1
"""When to send again what only followed a refused message."""
SETTLED_S: Final = 60.0
"""Attached for this long, a client that was replaced may attach anew once more."""

_AGAIN = frozenset({"overloaded", "rate_limited", "unavailable"})
_NOT_HERE = frozenset({"replaced", "ended"})
_NEVER_STORED = frozenset({"bad_request", "too_large"})


@dataclass(frozen=True, slots=True)
class Stored:
    """The message will be handled once, or answered by a `rejected` with a cursor."""

    ticket: int
    mid: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The message was certainly not stored, and sending it again wouldn't help."""

    ticket: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages of unknown fate: those that had a receipt, by mid, and those that waited for one, by ticket."""

    mids: range
    tickets: tuple[int, ...]


Fate = Stored | Refused | Lost


@dataclass(slots=True, eq=False)
class _Waiting:
    """A message without a receipt.

    Attributes:
        mid: What it was sent under last.
        times: How often it was sent under that, on whichever connection.
        copies: How many of it are under way on this connection, unanswered.
        unknown: A copy went out whose answer never came, or left it open.
    """

    ticket: int
    data: Value
    mid: int = 0
    times: int = 0
    copies: int = 0
    unknown: bool = False

    @property
    def pinned(self) -> bool:
        return self.unknown or self.copies > 0

    def pinned_to(self, mid: int) -> bool:
        """Whether it may be stored under a mid up to this one."""
        return self.pinned and self.mid <= mid


@dataclass(slots=True)
class ClientSession:
    """What one client knows of its session in one transaction.

    Attributes:
        session: Its secret; None until it was chosen or issued.
        cursor: Where to resume: the newest entry taken.
        stored: The highest mid that is known to be stored.
        attached: Entries may be taken. Between an `attach` and its answer they are to be ignored.
        must_attach: Only a new attach tells what is stored.
        over: The end was seen.
    """

    tx: str
    cursor: str = "0"
    session: str | None = None
    stored: int = 0
    attached: bool = False
    must_attach: bool = False
    over: bool = False
    status: str | None = None
    _queue: deque[_Waiting] = field(default_factory=deque)
    _sent: int = 0
    _flight: dict[int, deque[_Waiting]] = field(default_factory=dict)
    _under_way: int = 0
    _moved: bool = False
    _hold_until: float = 0.0
    _next_ticket: int = 0
    _attached_at: float | None = None
    _replaced: bool = False

    # ---- what the application wants

    def put(self, data: Value) -> int:
        """Take a checked message; its ticket comes back with its fate."""
        self._next_ticket += 1
        self._queue.append(_Waiting(self._next_ticket, data))
        return self._next_ticket

    def withdraw(self, ticket: int) -> bool:
        """Forget a message, if no copy of it may be stored."""
        for place, waiting in enumerate(self._queue):
            if waiting.ticket == ticket and not waiting.pinned:
                self._drop(place)
                return True
        return False

    @property
    def waiting(self) -> int:
        """How many messages have no receipt yet."""
        return len(self._queue)

    @property
    def unanswered(self) -> int:
        """How many copies on this connection have no answer yet."""
        return self._under_way

    # ---- what goes out

    def attach(self, token: str | None = None) -> Attach:
        """The attach to send now."""
        self.attached = False
        self.must_attach = False
        return Attach(self.tx, self.cursor, self.session, token)

    def due(self, now: float) -> list[Send]:
        """The messages to send now; each counts as sent."""
        if not self.attached or self.over or self.must_attach or now < self._hold_until:
            return []
        if self._moved and self._under_way:
            return []
        self._moved = False
        sends = []
        while self._sent < len(self._queue) and self._under_way < WINDOW:
            waiting = self._queue[self._sent]
            self._sent += 1
            self._under_way += 1
            mid = self.stored + self._sent
            waiting.times = waiting.times + 1 if mid == waiting.mid else 1
            waiting.mid = mid
            waiting.copies += 1
            self._flight.setdefault(waiting.mid, deque()).append(waiting)
            sends.append(Send(self.tx, waiting.mid, waiting.data))
        return sends

    def next_due(self) -> float | None:
        """When `due` will have something, where only time is missing."""
        if not self.attached or self.over or self.must_attach or self._sent == len(self._queue):
            return None
        blocked = self._under_way >= WINDOW or (self._moved and self._under_way)
        return None if blocked else self._hold_until

    # ---- what comes in

    def on_connection_lost(self) -> None:
        """The connection is gone: whatever went out on it unanswered may be stored or not."""
        self.attached = False
        self._flight.clear()
        self._under_way = self._sent = 0
        for waiting in self._queue:
            waiting.unknown = waiting.pinned
            waiting.copies = 0

    def on_message(self, message: EdgeMessage, now: float) -> list[Fate]:
        """Take a message of the edge for this transaction; what it decided of messages that wait.

        Entries that come while `attached` is false are to be ignored by the caller as well.
        """
        match message:
            case Attached():
                return self._on_attached(message, now)
            case Receipt():
                return self._on_receipt(message.mid, duplicate=message.duplicate)
            case Rejected(cursor=None):
                return self._on_refused(message, now)
            case Error(op="send", mid=int(mid)):
                return self._on_send_error(message, mid, now)
            case Error(op=None):
                self.attached = False
                return []
            case Update() | Advance() | Reset() | Rejected() | End() if self.attached:
                return self._on_entry(message)
        return []

    def on_replaced(self, now: float) -> bool:
        """Whether to attach anew (after a backoff). False: another client has the session; give up."""
        settled = self._attached_at is not None and now - self._attached_at >= SETTLED_S
        again = settled or not self._replaced
        self._replaced = True
        self.attached = False
        return again

    def end(self) -> list[Fate]:
        """The transaction is over or can't be followed any more: what becomes of the messages that still wait."""
        lost = tuple(waiting.ticket for waiting in self._queue if waiting.pinned)
        fates: list[Fate] = [Lost(range(0), lost)] if lost else []
        fates += [Refused(w.ticket, "ended", "the transaction is over") for w in self._queue if not w.pinned]
        self._queue.clear()
        self._sent = 0
        return fates

    # ---- decisions

    def _on_attached(self, message: Attached, now: float) -> list[Fate]:
        self.session, self.status = message.session, message.status
        if self.cursor == NEW_ONLY:
            self.cursor = message.cursor  # else it is what was asked for, or a reset's, which is taken with that alone
        self.attached, self.over = True, False
        self._attached_at = now
        fates = self._compare(message.last_mid)
        self._sent, self._hold_until = 0, 0.0
        for waiting in self._queue:
            waiting.unknown = False  # the attach took the place: an older copy can't be stored any more
        return fates

    def _on_entry(self, message: Update | Advance | Reset | Rejected | End) -> list[Fate]:
        if message.cursor is not None:
            self.cursor = message.cursor
        match message:
            case Reset():
                fates = self._compare(message.last_mid)
                self.must_attach = self.must_attach or (self._moved and self._under_way > 0)
                return fates
            case Rejected():
                return self._settle(message.mid)
            case End():
                self.over, self.status = True, message.status
                return self._end_if_over()
        return []

    def _compare(self, last_mid: int) -> list[Fate]:
        """Settle the queue by what the edge says is stored."""
        if last_mid >= self.stored:
            fates = self._settle(last_mid)
            self.stored = last_mid
            return fates
        mids = range(last_mid + 1, self.stored + 1)
        lost = tuple(waiting.ticket for waiting in self._queue if waiting.pinned)
        self._queue = deque(waiting for waiting in self._queue if not waiting.pinned)
        self.stored, self._sent, self._moved = last_mid, 0, True
        return [Lost(mids, lost)]

    def _settle(self, mid: int) -> list[Fate]:
        """All that was sent under a mid up to this one is stored."""
        fates: list[Fate] = []
        while self._queue and self._queue[0].pinned_to(mid):
            waiting = self._queue.popleft()
            self.stored = max(self.stored, waiting.mid)
            self._sent = max(0, self._sent - 1)
            fates.append(Stored(waiting.ticket, waiting.mid))
        return fates

    def _on_receipt(self, mid: int, *, duplicate: bool) -> list[Fate]:
        waiting = self._answered(mid)
        if waiting is None or waiting not in self._queue:
            return self._end_if_over()
        if duplicate and waiting.times == 1:
            # It was never sent under this mid before: what is stored there is another message, and this one isn't.
            self.must_attach = True
            self._sent = min(self._sent, self._queue.index(waiting))
            return self._end_if_over()
        waiting.unknown = True  # it is in the inbox: pinned for good
        return self._settle(mid) + self._end_if_over()

    def _on_refused(self, message: Rejected, now: float) -> list[Fate]:
        """A copy that was certainly not stored."""
        place = self._take_answer(message.mid)
        if place is None:
            return self._end_if_over()
        waiting = self._queue[place]
        if message.code == "out_of_order":
            waiting.unknown = False
            self.must_attach = self.must_attach or (message.last_mid or 0) < self.stored
            self._again(place, message.retry_after_ms, FOLLOWER_RETRY_S, now)
        elif message.code in _AGAIN or message.code in _NOT_HERE or not self.attached:
            self._again(place, message.retry_after_ms, RETRY_S, now)
        elif waiting.unknown:
            self.must_attach = True  # this copy was refused, but an older one may be stored
            self._sent = min(self._sent, place)
        else:
            self._drop(place)
            return [Refused(waiting.ticket, message.code, message.message)]
        return self._end_if_over()

    def _on_send_error(self, message: Error, mid: int, now: float) -> list[Fate]:
        if message.code in _NEVER_STORED:
            return self._on_refused(Rejected(self.tx, mid, message.code, message.message), now)
        waiting = self._answered(mid)
        if waiting is not None and waiting in self._queue:
            waiting.unknown = True
            self._again(self._queue.index(waiting), message.retry_after_ms, RETRY_S, now)
        return self._end_if_over()

    def _again(self, place: int, retry_after_ms: int | None, default_s: float, now: float) -> None:
        """Send again from `place` on, after a while."""
        self._sent = min(self._sent, place)
        pause_s = default_s if retry_after_ms is None else retry_after_ms / 1000
        self._hold_until = max(self._hold_until, now + pause_s)

    def _drop(self, place: int) -> None:
        """Take out a message that isn't stored. What follows it isn't either, and gets other mids."""
        del self._queue[place]
        for later in list(self._queue)[place:]:
            later.unknown = False
        self._sent = min(self._sent, place)
        self._moved = True

    def _end_if_over(self) -> list[Fate]:
        return self.end() if self.over and not self._under_way else []

    # ---- copies

    def _answered(self, mid: int) -> _Waiting | None:
        """One copy of `mid` on this connection has its answer: the message that it was of."""
        copies = self._flight.get(mid)
        if not copies:
            return None
        waiting = copies.popleft()
        if not copies:
            del self._flight[mid]
        self._under_way -= 1
        waiting.copies -= 1
        return waiting

    def _take_answer(self, mid: int) -> int | None:
        """The place of the message that a refusal is about. None: it has gone, or a newer copy will be answered."""
        waiting = self._answered(mid)
        if waiting is None or waiting.copies or waiting not in self._queue:
            return None
        return self._queue.index(waiting)
