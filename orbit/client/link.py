"""The connection of a `Client`: one at a time, to one of several edges, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.typing import Subprotocol

from orbit.client.attachment import Attachment
from orbit.client.backoff import Backoff
from orbit.errors import REQUEST_ERRORS, BadRequest, Internal, OrbitError, ProtocolError
from orbit.protocol.codec import Codec
from orbit.protocol.messages import ClientMessage, Detach, EdgeMessage, GoAway

OPEN_S: Final = 10.0
PING_S: Final = 20.0
STEADY_S: Final = 5.0
"""A connection that held for so long was a good one: the next attempt comes at once."""
FRAME_BYTES: Final = 16 * 1024 * 1024
"""What the client reads at most in one frame: a reset's view may be larger than a message."""

_FINAL = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
_FINAL_CODES = {4401: "unauthorized", 4403: "forbidden", 4404: "not_found", 4429: "rate_limited"}
_FINAL_STATUS = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found"}


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where to connect and how. `urls` are those of `/v1/ws`; `shuffle`: begin with any of them, not with the first;
    `headers`: asked for each handshake."""

    urls: Sequence[str]
    codec: Codec
    headers: Callable[[], dict[str, str]] = dict
    backoff: Backoff = field(default_factory=Backoff)
    shuffle: bool = True


class _Leave(Exception):
    """This connection is to be left for another one."""


class Link:
    """Keeps the attachments of one client connected while there are any.

    It runs as one task, which its owner starts with the first attachment and which ends by cancelling alone.

    Attributes:
        trouble: Why the last connection that broke did so; empty while none did.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._urls = list(settings.urls)
        if settings.shuffle:
            random.shuffle(self._urls)
        self.trouble = ""
        self._attachments: dict[str, Attachment] = {}
        self._parting: list[Detach] = []
        self._wanted = asyncio.Event()
        self._to_say = asyncio.Event()
        self._stirred: set[str] = set()
        self._leaving: asyncio.TimerHandle | None = None
        self._left = False
        self._connected = False

    @property
    def url(self) -> str | None:
        """Where it is connected now; None where it isn't."""
        return self._urls[0] if self._connected else None

    # ---- attachments

    def __contains__(self, tx: str) -> bool:
        return tx in self._attachments

    def add(self, attachment: Attachment) -> None:
        """Follow one more transaction."""
        self._attachments[attachment.tx] = attachment
        self._wanted.set()
        self.wake(attachment.tx)

    def forget(self, tx: str) -> None:
        """An attachment is done. An edge that still follows it is told."""
        attachment = self._attachments.pop(tx, None)
        if attachment is not None and self._connected and attachment.wants_detach:
            self._parting.append(Detach(tx))
            self._to_say.set()

    def wake(self, tx: str) -> None:
        """Something may be to say for this transaction."""
        self._stirred.add(tx)
        self._to_say.set()

    def close(self) -> None:
        """Stop following everything."""
        for attachment in list(self._attachments.values()):
            attachment.close()

    def fail(self, failure: OrbitError) -> None:
        """Nothing can be followed any more."""
        for attachment in list(self._attachments.values()):
            attachment.fail(failure)

    # ---- connections

    async def run(self) -> None:
        """Connect whenever there is something to follow, for ever."""
        attempt = 0
        while True:
            self._wanted.clear()
            if not self._attachments:
                await self._wanted.wait()
            started = _now()
            try:
                await self._connect(self._urls[0])
            except _Leave:
                attempt = 0
            except OrbitError as failure:
                self.fail(failure)
            except (OSError, TimeoutError, WebSocketException) as trouble:
                self.trouble = f"{self._urls[0]}: {trouble or type(trouble).__name__}"
                attempt = 0 if _now() - started > STEADY_S else attempt + 1
            except Exception as defect:
                self.fail(Internal(f"the client's connection failed: {type(defect).__name__}: {defect}"))
                raise
            self._urls.append(self._urls.pop(0))
            await asyncio.sleep(self._settings.backoff.wait_s(attempt))

    async def _connect(self, url: str) -> None:
        """One connection, from the handshake to its end. Raises why it ended."""
        settings = self._settings
        try:
            connection = await connect(
                url,
                subprotocols=[Subprotocol(settings.codec.subprotocol)],
                additional_headers=settings.headers(),
                open_timeout=OPEN_S,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=1,
                max_size=FRAME_BYTES,
                compression=None,
            )
        except InvalidStatus as refused:
            raise _final(_FINAL_STATUS.get(refused.response.status_code), str(refused)) or refused from None
        except InvalidURI as error:
            raise BadRequest(str(error)) from None
        async with connection:
            if connection.subprotocol != settings.codec.subprotocol:
                raise ProtocolError(f"{url} doesn't speak {settings.codec.subprotocol}")
            try:
                await self._serve(connection)
            except ConnectionClosed:
                raise _ending(connection) from None

    async def _serve(self, connection: ClientConnection) -> None:
        self._connected, self._left = True, False
        self._parting.clear()
        for attachment in self._attachments.values():
            attachment.on_connected()
        writer = asyncio.create_task(self._write(connection), name="orbit client writer")
        reader = asyncio.create_task(self._read(connection), name="orbit client reader")
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connected = False
            if self._leaving is not None:
                self._leaving.cancel()
            reader.cancel()
            writer.cancel()
            outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
            for attachment in list(self._attachments.values()):
                attachment.on_disconnected()
        _raise_first(outcomes)

    async def _read(self, connection: ClientConnection) -> None:
        while True:
            frame = await connection.recv()
            messages = self._settings.codec.decode_edge(frame)
            for message in messages:
                await self._route(message, len(frame) // len(messages))

    async def _route(self, message: EdgeMessage, size: int) -> None:
        if isinstance(message, GoAway):
            self._leaving = asyncio.get_running_loop().call_later(message.reconnect_after_ms / 1000, self._leave)
            return
        attachment = self._attachments.get(getattr(message, "tx", None) or "")
        if attachment is not None:
            await attachment.take(message, size, _now())

    def _leave(self) -> None:
        self._left = True
        self._to_say.set()

    async def _write(self, connection: ClientConnection) -> None:
        codec = self._settings.codec
        while not self._left:
            self._to_say.clear()
            for message in self._outgoing():
                await connection.send(codec.encode_client(message), text=codec.text)
            await self._to_say.wait()
        raise _Leave

    def _outgoing(self) -> list[ClientMessage]:
        """What is to be said now. Raises TimeoutError where the edge owes an answer for too long."""
        out: list[ClientMessage] = list(self._parting)
        self._parting.clear()
        stirred, self._stirred = self._stirred, set()
        now = _now()
        for tx in stirred:
            attachment = self._attachments.get(tx)
            if attachment is None:
                continue
            if attachment.is_overdue(now):
                raise TimeoutError
            out += attachment.outgoing(now)
        return out


def _now() -> float:
    return asyncio.get_running_loop().time()


def _final(code: str | None, reason: str) -> OrbitError | None:
    return None if code is None else REQUEST_ERRORS[code](reason)


def _ending(connection: ClientConnection) -> Exception:
    """What a closed connection means for those who used it."""
    code, reason = connection.close_code, connection.close_reason or ""
    if code in _FINAL_CODES:
        return REQUEST_ERRORS[_FINAL_CODES[code]](reason)
    if code is not None and (code in _FINAL or 4400 <= code < 4500):
        return BadRequest(f"the edge closed the connection with {code} {reason}".rstrip())
    return ConnectionError(f"closed with {code} {reason}".rstrip())


def _raise_first(outcomes: Sequence[BaseException | None]) -> None:
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
            raise outcome
