"""A connection that another ASGI server holds: the same dialogue as on the edge's own, over its events.

Memory is bounded as there: while more than `OUT_BYTES` wait for the client its followers are served from the log;
nothing more is read while it doesn't take its answers. Pings are the server's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request

from orbit.edge.access import Rights
from orbit.edge.connection import BAD_MESSAGE
from orbit.edge.conversation import Conversation
from orbit.edge.dialogue import Dialogue
from orbit.edge.edge import Edge
from orbit.edge.frames import payloads
from orbit.edge.handshake import STATUSES, PlainRequest, challenge, error_body, judge, retry_after, rights_of
from orbit.edge.outgoing import Outgoing
from orbit.edge.plain import Plain
from orbit.errors import BadRequest, ProtocolError, RequestError
from orbit.protocol.codecs import CODECS, JSON

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
        self.conversation: Conversation | None = None
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ready = asyncio.Event()
        self._ready.set()

    async def run(self) -> None:
        """Shake hands, then converse until either side closes."""
        await self._receive()  # websocket.connect
        try:
            conversation, subprotocol = await self._shake_hands()
        except RequestError as error:
            await refuse(self._scope, self._send, error)
            return
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})
        self._edge.metrics.opened.inc()
        await self.live(self._converse(conversation), f"connection {self.id}")

    async def _shake_hands(self) -> tuple[Conversation, str | None]:
        request = request_of(self._scope)
        plain, rights = judge(self._edge, request), rights_of(self._edge, request)
        peer = self._scope.get("client")
        self.address = self._edge.address_of(peer and peer[0], request.headers.get_all("X-Forwarded-For"))
        if plain is not None and rights is not None:
            return await self._attach_first(plain, rights), None
        offered = self._scope.get("subprotocols") or ()
        chosen = next((name for name in CODECS if name in offered), None)
        if chosen is None:
            raise BadRequest(f"a subprotocol is needed: one of {', '.join(CODECS)}")
        self.codec = CODECS[chosen]
        self.conversation = conversation = Dialogue(self._edge, self, rights)
        self._edge.take_in(self)
        return conversation, chosen

    async def _attach_first(self, plain: PlainRequest, rights: Rights) -> Conversation:
        """In plain mode the handshake is answered when the attach is."""
        answered: asyncio.Future[RequestError | None] = asyncio.get_running_loop().create_future()
        self.conversation = conversation = Plain(self._edge, self, rights, plain, answered.set_result)
        self._edge.take_in(self)
        conversation.begin()
        try:
            if (refused := await answered) is not None:
                raise refused
        except BaseException:
            self._end(conversation)
            raise
        return conversation

    def _end(self, conversation: Conversation) -> None:
        self.leave()
        self._edge.forget(self)
        conversation.leave()

    async def _converse(self, conversation: Conversation) -> None:
        both = asyncio.create_task(self._read(conversation)), asyncio.create_task(self._write())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._end(conversation)
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    # ---- what the process asks

    def shutdown(self) -> None:
        self.close(CloseCode.SERVICE_RESTART, "the edge restarts")

    def go_away(self, reconnect_after_ms: int) -> None:
        if not self.closed and self.conversation is not None:
            self.conversation.go_away(reconnect_after_ms)

    # ---- out

    async def _write(self) -> None:
        while True:
            for frames in await self.next():
                for payload, text in payloads(frames):
                    await self._send(
                        {"type": "websocket.send", "text": payload.decode()}
                        if text
                        else {"type": "websocket.send", "bytes": payload}
                    )
                self.took(len(frames))
            if self.last and self.closing is not None:
                code, reason = self.closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                return

    # ---- in

    async def _read(self, conversation: Conversation) -> None:
        while True:
            while self.choked or conversation.full:
                self._ready.clear()
                await self._ready.wait()
            event = await self._receive()
            if event["type"] != "websocket.receive":
                return
            if not self.closed:
                self._take(conversation, event)

    def take_more(self) -> None:
        """There may be room for more of what the client said."""
        self._ready.set()

    def _take(self, conversation: Conversation, event: Message) -> None:
        text = event.get("text")
        payload: bytes = event["bytes"] if text is None else text.encode(errors="surrogatepass")
        if len(payload) > self._edge.config.limits.frame_bytes:
            self.close(CloseCode.MESSAGE_TOO_BIG)
            return
        try:
            messages = conversation.read(payload, text=text is not None)
        except ProtocolError as error:
            self.close(BAD_MESSAGE, str(error).encode()[:120].decode(errors="ignore"))
            return
        for message in messages:
            conversation.receive(message)


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


def request_of(scope: Scope) -> Request:
    """The handshake's request, its path as from where the edge is mounted."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    query = scope.get("query_string", b"").decode("latin-1")
    headers = Headers((name.decode("latin-1"), text.decode("latin-1")) for name, text in scope["headers"])
    return Request(path + (f"?{query}" if query else ""), headers)
