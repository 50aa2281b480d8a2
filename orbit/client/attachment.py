"""`Attachment`: one transaction followed over a connection that may come and go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, cast

from orbit.client.backoff import Backoff
from orbit.errors import REQUEST_ERRORS, Ended, Internal, MessageLost, OrbitError, RequestError, Unauthorized
from orbit.protocol.cursors import NEW_ONLY
from orbit.protocol.messages import (
    Advance,
    Attached,
    ClientMessage,
    EdgeMessage,
    End,
    Error,
    Rejected,
    Reset,
    Update,
    Value,
)
from orbit.protocol.sessions import ClientSession, Fate, Lost, Refused, Stored
from orbit.protocol.values import pack

Event = Attached | Update | Reset | Advance | Rejected | End | Lost
"""What an attachment tells, as the wire has it; `Lost` names the messages whose fate nobody knows any more."""

BUFFER_EVENTS: Final = 1_000
BUFFER_BYTES: Final = 8 * 1024 * 1024
WAITING_MESSAGES: Final = 1_000
"""How many messages may wait for their receipt before `send` waits for room."""
ROOM_S: Final = 1.0
"""How long the connection waits for an application that doesn't take its events, before it goes on without it."""
ANSWER_S: Final = 30.0
"""An edge that answers neither an attach nor a message for so long is left."""

_FOR_NOW = frozenset({"unavailable", "overloaded", "rate_limited", "internal"})


@dataclass(frozen=True, slots=True)
class Ties:
    """What an attachment needs of its client: `wake` its writer for a transaction, `forget` it when it is done."""

    wake: Callable[[str], None]
    forget: Callable[[str], None]


Token = str | Callable[[], str]
"""A token, or what is asked for the newest one whenever one is needed."""


def newest(token: Token) -> str:
    return token if isinstance(token, str) else token()


class Attachment:
    """Follow one transaction: `async for event in attachment`, and `await attachment.send(data)`.

    Events come each once and in order, over every reconnect, until the transaction is over or this is closed. At most
    `BUFFER_EVENTS` wait for the application: the connection waits for a slow one, and one that takes nothing for
    `ROOM_S` is served from the log when it comes back.
    """

    def __init__(self, ties: Ties, session: ClientSession, *, token: Token | None, limit_bytes: int) -> None:
        self._ties = ties
        self._session = session
        self._token = token
        self._limit_bytes = limit_bytes
        self._cursor = session.cursor
        self._events: deque[tuple[Event, int]] = deque()
        self._buffered_bytes = 0
        self._skipping = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._tickets: dict[int, asyncio.Future[int]] = {}
        self._receipts = asyncio.Event()
        self._failure: OrbitError | None = None
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = False
        self._backoff = Backoff(first_s=1.0)
        self._refusals = 0
        self._attach_at: float | None = 0.0
        self._asked_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # ---- the application's side

    @property
    def tx(self) -> str:
        """The transaction's id."""
        return self._session.tx

    @property
    def session(self) -> str | None:
        """The session's secret: with it, a later attach goes on under the same name and mids."""
        return self._session.session

    @property
    def cursor(self) -> str:
        """The place of the newest event that was taken: where a later attach goes on."""
        return self._cursor

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            StopAsyncIteration: After the end, and after `close`.
            RequestError: It can't be followed any more, by the error's code.
        """
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._closed or self._session.over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        event, size = self._events.popleft()
        self._buffered_bytes -= size
        if not isinstance(event, Attached) or self._cursor == NEW_ONLY:
            self._cursor = getattr(event, "cursor", None) or self._cursor
        self._room.set()
        if self._skipping and not self._events:
            self._attach_at = 0.0
            self._wake()
        return event

    async def attached(self) -> None:
        """Returns when an edge has said that the transaction is followed. Raises why it can't be."""
        await asyncio.shield(self._first)

    async def send(self, data: Value) -> int:
        """Send a message to the State; returns its mid once it is stored.

        Then it will be handled once, or a `Rejected` comes as an event.
        It goes out under one mid for as long as it may be stored, over reconnects, in the order of the calls.

        Raises:
            BadRequest, TooLarge: It can't be sent.
            RequestError: It was refused, by the error's code, and not stored. Ended: the transaction is over.
            MessageLost: Its fate is unknown: Redis lost writes, or the session was forgotten.

        Cancellation: it may be stored or not; where it didn't go out yet, it doesn't any more.
        """
        pack(data, limit_bytes=self._limit_bytes)
        while self._session.waiting >= WAITING_MESSAGES and not self._done:
            self._receipts.clear()
            await self._receipts.wait()
        if self._failure is not None:
            raise self._failure
        if self._done:
            raise Ended("the transaction is over, or its attachment was closed")
        ticket = self._session.put(data)
        stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = stored
        self._wake()
        try:
            return await stored
        finally:
            if self._tickets.pop(ticket, None) is not None:
                self._session.withdraw(ticket)

    def close(self) -> None:
        """Stop following. Messages without a receipt end with an error; those that went out may be stored."""
        if not self._closed:
            self._closed = True
            self._finish(Ended("the attachment was closed"))
            self._ties.forget(self.tx)

    # ---- the connection's side

    @property
    def is_over(self) -> bool:
        """Nothing more is to be said or heard."""
        return self._done and not self._session.unanswered

    @property
    def wants_detach(self) -> bool:
        """An edge still follows the transaction for nobody."""
        return self._closed and not self._session.over and self._failure is None

    @property
    def _done(self) -> bool:
        return self._closed or self._session.over or self._failure is not None

    def on_connected(self) -> None:
        """A new connection stands: attach anew."""
        self._attach_at = 0.0
        self._wake()

    def on_disconnected(self) -> None:
        """The connection is gone."""
        self._asked_at = None
        self._stop_timer()
        self._session.on_connection_lost()
        if self._done:
            self._finish(Ended("the transaction is over"))
            self._ties.forget(self.tx)

    def outgoing(self, now: float) -> list[ClientMessage]:
        """What to say now."""
        if self._session.must_attach:
            self._attach_at = now if self._attach_at is None else self._attach_at
        out: list[ClientMessage] = []
        if self._attach_at is not None and self._attach_at <= now and not self._done:
            self._attach_at, self._skipping = None, False
            out.append(self._session.attach(None if self._token is None else newest(self._token)))
        out += self._session.due(now)
        if out and self._asked_at is None:
            self._asked_at = now
        self._set_timer()
        return out

    def is_overdue(self, now: float) -> bool:
        """The edge owes an answer for too long."""
        return self._asked_at is not None and now - self._asked_at >= ANSWER_S

    async def take(self, message: EdgeMessage, size: int, now: float) -> None:
        """A message from the edge for this transaction. Waits for room in the buffer, for a while."""
        entry = _is_entry(message)
        if entry and not await self._may_take(size):
            return
        stale = isinstance(message, Error) and message.op is None and self._awaits_attached
        fates = self._session.on_message(message, now)
        if isinstance(message, Error) and not stale:
            self._on_error(message, now)
        elif isinstance(message, Attached):
            self._on_attached()
        self._asked_at = now if self._session.unanswered or self._awaits_attached else None
        self._learn(fates)
        if entry or isinstance(message, Attached):
            self._tell(cast(Event, message), size)
        if self.is_over:
            self._ties.forget(self.tx)
        elif not isinstance(message, Update | Advance):
            self._wake()

    def fail(self, failure: OrbitError) -> None:
        """It can't be followed any more."""
        if not self._done:
            self._failure = failure
            self._finish(failure)
            self._ties.forget(self.tx)

    @property
    def _awaits_attached(self) -> bool:
        return not self._session.attached and self._attach_at is None and not self._done

    def _wake(self) -> None:
        self._ties.wake(self.tx)

    def _set_timer(self) -> None:
        """Wake the writer when there will be something to say, or an answer is overdue."""
        answer_due = None if self._asked_at is None else self._asked_at + ANSWER_S
        times = (None if self._done else self._attach_at, self._session.next_due(), answer_due)
        due = min((time for time in times if time is not None), default=None)
        self._stop_timer()
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._wake)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _may_take(self, size: int) -> bool:
        """Whether an entry is to be taken: it belongs to this attach, and there is room for it, perhaps soon."""
        if self._fits(size):
            return self._session.attached and not self._skipping
        try:
            async with asyncio.timeout(ROOM_S):
                while not self._fits(size) and not self._skipping and not self._closed:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            self._skipping = True
        return self._session.attached and not self._skipping

    def _fits(self, size: int) -> bool:
        room = len(self._events) < BUFFER_EVENTS and self._buffered_bytes + size <= BUFFER_BYTES
        return room or not self._events

    def _on_attached(self) -> None:
        self._refusals = 0
        if not self._first.done():
            self._first.set_result(None)

    def _tell(self, event: Event, size: int = 0) -> None:
        if not self._closed:
            self._events.append((event, size))
            self._buffered_bytes += size
            self._news.set()

    def _on_error(self, error: Error, now: float) -> None:
        if error.op not in (None, "attach"):
            return
        if error.op is None and error.code == "replaced":
            if self._session.on_replaced(now):
                self._attach_later(error, now, least_s=1.0)
            else:
                self.fail(_refusal(error.code, error.message))
        elif error.code in _FOR_NOW or (error.code == Unauthorized.code and error.op is None and callable(self._token)):
            self._attach_later(error, now, least_s=0.0)
        else:
            self.fail(_refusal(error.code, error.message))

    def _attach_later(self, error: Error, now: float, *, least_s: float) -> None:
        wait_s = least_s + self._backoff.wait_s(self._refusals)
        self._refusals += 1
        self._attach_at = now + max(wait_s, (error.retry_after_ms or 0) / 1000)

    def _learn(self, fates: list[Fate]) -> None:
        for fate in fates:
            match fate:
                case Stored(ticket, mid):
                    self._settle(ticket, mid)
                case Refused(ticket, code, message):
                    self._settle(ticket, self._failure or _refusal(code, message))
                case Lost(_, tickets):
                    for ticket in tickets:
                        self._settle(ticket, MessageLost("whether the message was handled can't be known any more"))
                    self._tell(fate)

    def _settle(self, ticket: int, outcome: int | OrbitError) -> None:
        stored = self._tickets.pop(ticket, None)
        self._receipts.set()
        if stored is None or stored.done():
            return
        if isinstance(outcome, int):
            stored.set_result(outcome)
        else:
            stored.set_exception(outcome)

    def _finish(self, why: OrbitError) -> None:
        """Nobody waits any longer."""
        self._stop_timer()
        for fate in self._session.end():
            if isinstance(fate, Refused):
                self._settle(fate.ticket, why)
            else:
                self._learn([fate])
        if not self._first.done():
            self._first.set_exception(why)
            self._first.exception()  # it may be that nobody asks
        self._receipts.set()
        self._room.set()
        self._news.set()


def _is_entry(message: EdgeMessage) -> bool:
    """Whether it has its place in the log."""
    return isinstance(message, Update | Reset | Advance | End) or (
        isinstance(message, Rejected) and message.cursor is not None
    )


def _refusal(code: str, message: str) -> RequestError:
    """The error of a code. One that this version doesn't know is told as it is."""
    kind = REQUEST_ERRORS.get(code)
    if kind is None:
        return Internal(f"{code}: {message}")
    return Internal(message) if code == "out_of_order" else kind(message)
