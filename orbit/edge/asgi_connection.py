"""A connection that another ASGI server holds: the same dialogue as on the edge's own, over its events.

Memory is bounded as there: while more than `OUT_BYTES` wait for the client its followers are served from the log;
nothing more is read while it doesn't take its answers. Pings are the server's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request

from orbit.edge.connection import BAD_MESSAGE, BUSY
from orbit.edge.dialogue import Dialogue
from orbit.edge.edge import Edge
from orbit.edge.frames import message_frame
from orbit.edge.handshake import STATUSES, challenge, error_body, judge, retry_after, rights_of
from orbit.edge.outgoing import Outgoing
from orbit.errors import BadRequest, ProtocolError, RequestError
from orbit.protocol.codecs import CODECS, JSON
from orbit.protocol.messages import GoAway

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiConnection(Outgoing):
    """One client's connection, from its handshake on; `run` lives as long as it does."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(edge.config, JSON)
        self.id = edge.new_connection_id()
        self.address: str | None = None
        self.dialogue: Dialogue | None = None
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ready = asyncio.Event()
        self._ready.set()

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
            await refuse(self._scope, self._send, error)
            return
        await self._send({"type": "websocket.accept", "subprotocol": chosen})
        peer = self._scope.get("client")
        self.address = self._edge.address_of(peer and peer[0], request.headers.get_all("X-Forwarded-For"))
        self.codec = CODECS[chosen]
        self.dialogue = Dialogue(self._edge, self, rights)
        self._edge.take_in(self)
        self._edge.metrics.opened.inc()
        await self.live(self._converse(self.dialogue), f"connection {self.id}")

    async def _converse(self, dialogue: Dialogue) -> None:
        both = asyncio.create_task(self._read(dialogue)), asyncio.create_task(self._write())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.leave()
            self._edge.forget(self)
            dialogue.close()
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    # ---- what the process asks

    def shutdown(self) -> None:
        self.close(CloseCode.SERVICE_RESTART, "the edge restarts")

    def go_away(self, reconnect_after_ms: int) -> None:
        if not self.closed:
            self.write(message_frame(GoAway(reconnect_after_ms), self.codec))

    # ---- out

    async def _write(self) -> None:
        while True:
            for frames in await self.next():
                for payload in payloads(frames):
                    await self._send(
                        {"type": "websocket.send", "text": payload.decode()}
                        if self.codec.text
                        else {"type": "websocket.send", "bytes": payload}
                    )
                self.took(len(frames))
            if self.last and self.closing is not None:
                code, reason = self.closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                return

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


async def refuse(scope: Scope, send: Send, error: RequestError, code: int = CloseCode.POLICY_VIOLATION) -> None:
    """Answer a request or a handshake with an error; `code` closes where the server lets no more be said."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    if kind != "http.response" and kind not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": code})
        return
    headers = {"Content-Type": "application/json", **retry_after(error), **challenge(error)}
    encoded = [(name.lower().encode(), text.encode()) for name, text in headers.items()]
    await send({"type": f"{kind}.start", "status": STATUSES.get(error.code, 500), "headers": encoded})
    await send({"type": f"{kind}.body", "body": error_body(error)})


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
