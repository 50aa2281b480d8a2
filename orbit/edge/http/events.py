"""Server-sent events: a dialogue of which the client said one thing, its attach.

What the dialogue says is told as events; the way back is `POST .../messages`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orbit.edge.access import Rights
from orbit.edge.conversation import Conversation
from orbit.edge.dialogue import Dialogue
from orbit.edge.edge import Edge
from orbit.edge.frames import payloads
from orbit.edge.http.asking import cursor_in, session_in, transaction_id
from orbit.edge.http.entrance import address_of, rights_of
from orbit.edge.outgoing import Outgoing
from orbit.errors import REQUEST_ERRORS, Internal, NotFound, RequestError, Unavailable
from orbit.protocol.codecs import JSON
from orbit.protocol.entries import ENDED
from orbit.protocol.ids import TxId
from orbit.protocol.messages import Attach

TOLD = frozenset({"attached", "update", "reset", "rejected", "error", "end"})
RETRY_MS = 1000
"""When a browser reconnects after the stream broke."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Events:
    """`GET /v1/transactions/{id}/events`"""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def follow(self, request: Request) -> Response:
        """The stream, once its attach is answered: a refusal is an HTTP answer."""
        tx, session = transaction_id(request), session_in(request)
        after = cursor_in(request, request.headers.get("last-event-id"))
        if self._edge.draining:
            raise Unavailable("this edge is leaving", retry_after_ms=RETRY_MS)
        found = await self._edge.store.get(tx)
        if found is None:
            raise NotFound("no such transaction")
        if found.status in ENDED and after == str(found.head):
            return Response(status_code=204)
        if request.method == "HEAD":
            return Response(headers=HEADERS, media_type="text/event-stream")
        stream = EventStream(self._edge, rights_of(request), address_of(self._edge, request))
        try:
            await stream.begin(tx, after, session)
        except BaseException:
            stream.end()
            raise
        return stream


class EventStream(Outgoing, Response):
    """One client's stream: the line of its dialogue, and the response that tells it."""

    media_type = "text/event-stream"

    def __init__(self, edge: Edge, rights: Rights, address: str | None) -> None:
        Outgoing.__init__(self, edge.config, JSON)
        Response.__init__(self, headers=HEADERS)
        del self.headers["content-length"]
        self.id = edge.new_connection_id()
        self.address = address
        self._dialogue = Dialogue(edge, self, rights)
        self.conversation: Conversation | None = self._dialogue
        self._edge = edge
        self._beat_s = edge.config.pulse.heartbeat_s
        self._first: list[bytes] = []
        self._asked = ""

    async def begin(self, tx: TxId, after: str, session: str | None) -> None:
        """Attach.

        Raises:
            RequestError: It was refused.
        """
        self._edge.let_in()
        self._edge.take_in(self)
        self._dialogue.receive(Attach(tx, after, session))
        self._first = await self.next()
        self._asked = after
        payload, _ = next(payloads(self._first[0]))
        (answer, _), *_ = _messages(payload)
        if answer["type"] == "error":
            raise _refused(answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.live(self._serve(receive, send), f"events {self.id}")

    async def _serve(self, receive: Receive, send: Send) -> None:
        both = asyncio.create_task(self._write(send)), asyncio.create_task(_left(receive))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.end()
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    def end(self) -> None:
        """The client is gone, or everything is told: the session leaves its place."""
        self.leave()
        self._edge.forget(self)
        self._dialogue.leave()

    # ---- what the process asks

    def shutdown(self) -> None:
        self.close(0)

    def go_away(self, reconnect_after_ms: int) -> None:
        """There is no event that says it: a browser reconnects by itself when the stream ends."""
        asyncio.get_running_loop().call_later(reconnect_after_ms / 1000, self.shutdown)

    # ---- out

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _chunk(send, f"retry: {RETRY_MS}\n\n".encode())
        frames, over = self._first, False
        while not (over or self.last):
            for some in frames:
                over = await self._tell(send, some)
                self.took(len(some))
                if over:
                    break
            else:
                frames = await self._next(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self, send: Send) -> list[bytes]:
        """What waits; a comment now and then, so that whoever is between sees the stream alive."""
        while not self.last:
            try:
                async with asyncio.timeout(self._beat_s):
                    return await self.next()
            except TimeoutError:
                await _chunk(send, b":\n\n")
        return []

    async def _tell(self, send: Send, frames: bytes) -> bool:
        """Whether that was the last that there is to tell."""
        for frame, _ in payloads(frames):
            messages = _messages(frame)
            for message, payload in messages:
                # Should the stream break before the reset that follows, the browser asks from where it asked before.
                block = _block(message, payload, self._asked if len(messages) > 1 else None)
                if block:
                    await _chunk(send, block)
                if message["type"] == "end" or (message["type"] == "error" and "op" not in message):
                    return True
        return False


def _messages(payload: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The messages of a frame, each with its text."""
    said = json.loads(payload)
    if isinstance(said, dict):
        return [(said, payload)]
    return [(one, json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode()) for one in said]


def _block(message: dict[str, Any], payload: bytes, asked: str | None) -> bytes:
    """A message as an event; an advance as an id alone. `asked`: the id of an `attached` that a reset follows."""
    cursor = asked if asked is not None and message["type"] == "attached" else message.get("cursor")
    place = b"id: %b\n" % cursor.encode() if cursor is not None else b""
    if message["type"] == "advance":
        return place + b"\n"
    if message["type"] not in TOLD:
        return b""
    return b"%bevent: %b\ndata: %b\n\n" % (place, message["type"].encode(), payload)


def _refused(answer: dict[str, Any]) -> RequestError:
    kind = REQUEST_ERRORS.get(answer["code"], Internal)
    return kind(answer["message"], retry_after_ms=answer.get("retry_after_ms"))


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


