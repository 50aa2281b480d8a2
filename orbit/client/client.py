"""`Client`: transactions from any machine, over the edges' WebSocket and HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

from orbit.client.attachment import Attachment, Event, Ties, Token, newest
from orbit.client.backoff import Backoff
from orbit.client.link import Link, LinkSettings
from orbit.client.types import StateInfo, TransactionError, TransactionInfo, TransactionPage
from orbit.client.web import Web, read_field, read_state, read_transaction
from orbit.config import Limits
from orbit.errors import BadRequest, TransactionFailed, Unavailable, UpdatesReset, UsageError
from orbit.protocol.codec import Codec
from orbit.protocol.codecs import MSGPACK
from orbit.protocol.cursors import NEW_ONLY, parse_cursor
from orbit.protocol.ids import is_name
from orbit.protocol.messages import Reset, Update, Value
from orbit.protocol.sessions import ClientSession

_WAIT_S: Final = 20.0


class Client:
    """Starts, follows and steers transactions through any of several edges. One per loop; use it with `async with`.

    It holds one WebSocket for all that it follows, made when it is first needed and again whenever it breaks, on the
    next edge, after an exponential backoff with full jitter. What it follows goes on from its cursor.

    Args:
        urls: The edges, as `http://host:port` or `https://...`.
        token: Sent with every request and as the default of every attach. A function is asked for the newest one each
            time, and again when one has expired: so what is followed goes on. It must not block.
        codec: The subprotocol of the WebSocket.
        patience_s: For how long a request or an attach that finds no edge, or no room there, is tried again. What is
            followed once is followed on, however long that takes.
        backoff: The waits between connections that don't hold.
        shuffle: Begin with any of the edges, so that many clients spread over them; else with the first.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        token: Token | None = None,
        codec: Codec = MSGPACK,
        limits: Limits | None = None,
        patience_s: float = 15.0,
        shuffle: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        bases = [_base(url) for url in ([urls] if isinstance(urls, str) else urls)]
        if not bases:
            raise BadRequest("a client needs the URL of an edge")
        self._token = token

        def headers() -> dict[str, str]:
            return {} if token is None else {"Authorization": f"Bearer {newest(token)}"}

        self._limits = limits or Limits()
        self._patience_s = patience_s
        self._web = Web(bases, headers=headers, patience_s=patience_s)
        sockets = ["ws" + base.removeprefix("http") + "/v1/ws" for base in bases]
        self._link = Link(LinkSettings(sockets, codec, headers, backoff or Backoff(), shuffle))
        self._task: asyncio.Task[None] | None = None

    @property
    def edge(self) -> str | None:
        """The edge that its WebSocket is connected to now, as it was given; None where it is connected to none."""
        url = self._link.url
        return None if url is None else "http" + url.removeprefix("ws").removesuffix("/v1/ws")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop following everything, and close the connections."""
        self._link.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._web.close()

    # ---- starting

    async def start(
        self,
        state: str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        idempotency_key: str | None = None,
        delay_s: float = 0.0,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int = 0,
    ) -> str:
        """Start a transaction, once per id or key, and return its id.

        Args:
            state: The State's name.
            input: Its fields: JSON values and bytes.
            delay_s / at: How long to wait before it runs, or until when (a time with a time zone).
            queue: Instead of its State's queue.
            priority: From -100 to 100: the higher, the sooner among those of its queue and State.

        Raises:
            BadRequest: The State is unknown, or the input doesn't fit; the message names the fields.
            Conflict: The id or key is another start's.
            Unavailable: No edge could be reached, or none could reach Redis. It may be started.
        """
        body: dict[str, Value] = {"state": state, "input": dict(input or {})}
        if id is not None:
            body["id"] = id
        if at is not None:
            body["at"] = at.isoformat()
        more = {"delay_s": delay_s, "queue": queue, "priority": priority}
        body |= {name: value for name, value in more.items() if value}
        key = idempotency_key or (secrets.token_urlsafe(16) if id is None else None)
        _, answer = await self._web.ask("POST", "transactions", body=body, key=key)
        return read_transaction(answer).id

    async def states(self) -> tuple[StateInfo, ...]:
        """The States that workers run or ran."""
        _, answer = await self._web.ask("GET", "states")
        return tuple(map(read_state, read_field(answer, "states")))

    # ---- looking

    async def get(self, tx: str) -> TransactionInfo:
        """One transaction. Raises NotFound."""
        _, answer = await self._web.ask("GET", "transactions", tx)
        return read_transaction(answer)

    async def list(
        self, *, state: str | None = None, status: str | None = None, limit: int = 100, page: str | None = None
    ) -> TransactionPage:
        """Transactions, newest first. `page`: the `next` of the page before."""
        query = {"state": state, "status": status, "limit": limit, "page": page}
        _, answer = await self._web.ask("GET", "transactions", query=query)
        return TransactionPage(tuple(map(read_transaction, read_field(answer, "transactions"))), answer.get("next"))

    async def result(self, tx: str, *, wait_s: float | None = None) -> Value:
        """The result, once the transaction is over.

        Args:
            wait_s: How long to wait for the end; None: as long as it takes.

        Raises:
            TransactionFailed: It failed or was cancelled.
            TimeoutError: It isn't over yet.
            NotFound: No such transaction.
        """
        loop = asyncio.get_running_loop()
        give_up_at = None if wait_s is None else loop.time() + wait_s
        while True:
            left_s = _WAIT_S if give_up_at is None else min(_WAIT_S, max(0.0, give_up_at - loop.time()))
            query = {"wait_s": round(left_s, 3)}
            status, answer = await self._web.ask("GET", "transactions", tx, "result", query=query, wait_s=left_s)
            running = read_field(answer, "status")
            if status == 200:
                return _outcome(answer)
            if give_up_at is not None and loop.time() >= give_up_at:
                raise TimeoutError(f"the transaction is {running}")

    # ---- steering

    async def send(self, tx: str, data: Value, *, idempotency_key: str | None = None) -> None:
        """A message for the State, stored once when this returns. It comes from no session, so nothing is answered.

        Raises:
            NotFound, Ended, Overloaded: It wasn't stored.
            BadRequest, TooLarge: The data can't be sent.
            Unavailable: It may be stored; with the same key, it may be sent again for 24 hours.
        """
        key = idempotency_key or secrets.token_urlsafe(16)
        await self._web.ask("POST", "transactions", tx, "messages", body={"data": data}, key=key)

    async def cancel(self, tx: str, reason: str = "") -> str:
        """Cancel a transaction; when this returns, that is certain to happen. Returns its status for now.

        Raises:
            NotFound, Ended.
        """
        body = {"reason": reason} if reason else {}
        _, answer = await self._web.ask("POST", "transactions", tx, "cancel", body=body)
        return str(read_field(answer, "status"))

    async def retry(self, tx: str) -> str:
        """Let a failed transaction go on from its last snapshot. Returns its status for now.

        Raises:
            NotFound.
            Conflict: It isn't failed.
        """
        _, answer = await self._web.ask("POST", "transactions", tx, "retry", key=secrets.token_urlsafe(16))
        return str(read_field(answer, "status"))

    # ---- following

    async def attach(
        self, tx: str, *, after: str = "0", session: str | None = None, token: Token | None = None
    ) -> Attachment:
        """Follow a transaction, and speak to it; returns once an edge follows it.

        Args:
            after: A cursor; `"0"`: from the start; `"$"`: only what is new.
            session: A secret of 16 to 64 characters of `A-Za-z0-9_-`; the same one goes on with the same mids.
            token: For this transaction, in place of the client's own. A function is asked again when one has expired.

        Raises:
            NotFound, Unauthorized, Forbidden, BadRequest: It can't be followed.
            Unavailable: No edge follows it within `patience_s`.
            UsageError: This client follows it already.

        Cancellation: it isn't followed.
        """
        _check_attach(after, session)
        if tx in self._link:
            raise UsageError(f"this client follows {tx} already: share its attachment, or use another client")
        ties = Ties(self._link.wake, self._link.forget)
        known = ClientSession(tx, after, session)
        if token is None and callable(self._token):
            token = self._token  # that of the handshake may be over
        attachment = Attachment(ties, known, token=token, limit_bytes=self._limits.data_bytes)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._link.run(), name="orbit client")
        self._link.add(attachment)
        try:
            async with asyncio.timeout(self._patience_s):
                await attachment.attached()
        except TimeoutError:
            attachment.close()
            reason = f"no edge follows {tx} after {self._patience_s:g} s; {self._link.trouble}".rstrip("; ")
            raise Unavailable(reason) from None
        except BaseException:
            attachment.close()
            raise
        return attachment

    async def updates(self, tx: str, *, after: str = "0", session: str | None = None) -> AsyncGenerator[Update]:
        """The updates of a transaction, each once, in order, until it is over.

        Raises:
            UpdatesReset: What was seen so far doesn't stand any more: go on from its view and cursor.
            NotFound, Gone, and the others of `attach`.
        """
        async with await self.attach(tx, after=after, session=session) as attachment:
            async for event in attachment:
                if isinstance(event, Reset):
                    raise UpdatesReset(event.reason, event.view, event.cursor)
                if isinstance(event, Update):
                    yield event

    async def events(self, tx: str, *, after: str = "0", session: str | None = None) -> AsyncGenerator[Event]:
        """As `updates`, but whole: all that the edge says about the transaction, as it says it."""
        async with await self.attach(tx, after=after, session=session) as attachment:
            async for event in attachment:
                yield event


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(f"{url!r} is no URL of an edge: it begins with http:// or https://")
    return url.rstrip("/")


def _check_attach(after: str, session: str | None) -> None:
    if after != NEW_ONLY and parse_cursor(after) is None:
        raise BadRequest("after is no cursor")
    if session is not None and not is_name(session):
        raise BadRequest("a session is 16 to 64 characters of A-Za-z0-9_-")


def _outcome(answer: Any) -> Value:
    if answer["status"] == "finished":
        return answer.get("result")
    told = answer.get("error") or {"type": answer["status"], "message": f"the transaction was {answer['status']}"}
    error = TransactionError(told["type"], told["message"])
    raise TransactionFailed(error.message, status=answer["status"], type=error.type)
