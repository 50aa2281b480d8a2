"""A connection that another ASGI server holds: the same dialogue as on the edge's own, over its events.

Memory is bounded as there: while more than `OUT_BYTES` wait for the client its followers are served from the log;
nothing more is read while it doesn't take its answers. Pings are the server's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request

from orbit.edge.connection import BAD_MESSAGE, BUSY, CLOSE_S, OUT_BYTES, TURNS
from orbit.edge.dialogue import Dialogue
from orbit.edge.edge import Edge
from orbit.edge.frames import message_frame
from orbit.edge.handshake import STATUSES, challenge, error_body, judge, retry_after, rights_of
from orbit.errors import BadRequest, ProtocolError, RequestError
from orbit.protocol.codecs import CODECS, Codec
from orbit.protocol.messages import GoAway

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiConnection:
    """One client's connection, from its handshake on; `run` lives as long as it does."""

    codec: Codec

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = edge.new_connection_id()
        self.address: str | None = None
        self.turns = asyncio.Semaphore(TURNS)
        self.dialogue: Dialogue | None = None
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ready = asyncio.Event()
        self._ready.set()
        self._closing: tuple[int, str] | None = None
        self._gone = False
        self._took_at = self._loop.time()
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Shake hands, then converse until either side closes."""
        await self._receive()  # websocket.connect
        offered = self._scope.get("subprotocols") or ()
        chosen = next((name for name in CODECS if name in offered), None)
        request = request_of(self._scope)
        try:
            if (refused := judge(self._edge, request)) is not None:
                raise refused
            rights = rights_of(self._edge, request)
            if chosen is None:
                raise BadRequest(f"a subprotocol is needed: one of {', '.join(CODECS)}")
        except RequestError as error:
            await self._refuse(error)
            return
        await self._send({"type": "websocket.accept", "subprotocol": chosen})
        peer = self._scope.get("client")
        self.address = self._edge.address_of(peer and peer[0], request.headers.get_all("X-Forwarded-For"))
        self.codec = CODECS[chosen]
        self.dialogue = Dialogue(self._edge, self, rights)
        self._edge.take_in(self)
        self._edge.metrics.opened.inc()
        self._task = asyncio.create_task(self._converse(self.dialogue), name=f"connection {self.id}")
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _refuse(self, error: RequestError) -> None:
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": CloseCode.POLICY_VIOLATION})
            return
        headers = {"Content-Type": "application/json", **retry_after(error), **challenge(error)}
        start = {
            "type": "websocket.http.response.start",
            "status": STATUSES.get(error.code, 500),
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
        }
        await self._send(start)
        await self._send({"type": "websocket.http.response.body", "body": error_body(error)})

    async def _converse(self, dialogue: Dialogue) -> None:
        both = asyncio.create_task(self._read(dialogue)), asyncio.create_task(self._write())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._gone = True
            self._edge.forget(self)
            dialogue.close()
            self._out.clear()
            self._room.set()
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    # ---- what the process asks

    def shutdown(self) -> None:
        self.close(CloseCode.SERVICE_RESTART, "the edge restarts")

    def close(self, code: int, reason: str = "") -> None:
        """Close once what waits is written; the connection is cut where the client doesn't take that."""
        if self.closed or self._task is None:
            return
        self._closing = code, reason
        self._more.set()
        self._loop.call_later(CLOSE_S, self._task.cancel)

    def go_away(self, reconnect_after_ms: int) -> None:
        if not self.closed:
            self.write(message_frame(GoAway(reconnect_after_ms), self.codec))

    def tick(self, now: float) -> None:
        """Cut a client that has taken nothing of what waits for it for too long."""
        if not self._out_bytes:
            self._took_at = now
        elif now - self._took_at > self._edge.config.pulse.stall_s and self._task is not None:
            self._task.cancel()

    # ---- out

    @property
    def closed(self) -> bool:
        return self._gone or self._closing is not None

    @property
    def choked(self) -> bool:
        return self._out_bytes > OUT_BYTES

    @property
    def waiting_bytes(self) -> int:
        return self._out_bytes

    def write(self, frames: bytes) -> None:
        if self.closed:
            return
        self._out.append(frames)
        self._out_bytes += len(frames)
        self._more.set()
        if self.choked:
            self._room.clear()

    async def writable(self) -> None:
        await self._room.wait()

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            out, self._out = self._out, []
            for frames in out:
                for payload in payloads(frames):
                    await self._send(
                        {"type": "websocket.send", "text": payload.decode()}
                        if self.codec.text
                        else {"type": "websocket.send", "bytes": payload}
                    )
                self._took(len(frames))
            if self._closing is not None and not self._out:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                return

    def _took(self, size: int) -> None:
        self._out_bytes -= size
        self._took_at = self._loop.time()
        if not self.choked:
            self._room.set()
            self.take_more()

    # ---- in

    async def _read(self, dialogue: Dialogue) -> None:
        while True:
            while self.choked or dialogue.busy >= BUSY:
                self._ready.clear()
                await self._ready.wait()
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return
            if not self.closed:
                self._take(dialogue, event)

    def take_more(self) -> None:
        """There may be room for more of what the client said."""
        self._ready.set()

    def _take(self, dialogue: Dialogue, event: Message) -> None:
        text = event.get("text")
        payload: bytes = event["bytes"] if text is None else text.encode(errors="surrogatepass")
        if len(payload) > self._edge.config.limits.frame_bytes:
            self.close(CloseCode.MESSAGE_TOO_BIG)
            return
        try:
            messages = self.codec.decode_client(payload, text=text is not None)
        except ProtocolError as error:
            self.close(BAD_MESSAGE, str(error).encode()[:120].decode(errors="ignore"))
            return
        for message in messages:
            dialogue.receive(message)


def payloads(frames: bytes) -> Iterator[bytes]:
    """What whole unmasked frames carry, one after the other (RFC 6455, section 5.2)."""
    at = 0
    while at < len(frames):
        size, at = frames[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(frames[at : at + width]), at + width
        yield frames[at : at + size]
        at += size


def request_of(scope: Scope) -> Request:
    """The handshake's request, its path as from where the edge is mounted."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    query = scope.get("query_string", b"").decode("latin-1")
    headers = Headers((name.decode("latin-1"), text.decode("latin-1")) for name, text in scope["headers"])
    return Request(path + (f"?{query}" if query else ""), headers)
