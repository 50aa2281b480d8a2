"""One WebSocket connection of the independent client: it says whatever it is told to, and notes everything."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from orbit.verify.codec import CODECS, Codec, Message, Unreadable
from orbit.verify.trace import Trace, What


def ws_url(base: str) -> str:
    """The WebSocket's URL of an edge, from the URL that its ready line names."""
    return base.replace("http", "ws", 1).rstrip("/") + "/v1/ws"


class Link:
    """One connection. `got` yields messages one by one; what is sent and got goes into `trace`."""

    def __init__(self, ws: ClientConnection, codec: Codec, trace: Trace, number: int) -> None:
        self.ws = ws
        self.codec = codec
        self.trace = trace
        self.number = number
        self.closed = False
        self._rest: list[Message] = []

    @classmethod
    async def open(
        cls, base: str, codec: str = "json", *, trace: Trace | None = None, number: int = 0, **options: Any
    ) -> Link:
        """Connect to the edge at `base` (`http://host:port`). `options` go to websockets' `connect`."""
        chosen = CODECS[codec]
        settings: dict[str, Any] = {
            "subprotocols": [Subprotocol(chosen.subprotocol)],
            "compression": None,
            "max_size": None,
            "ping_interval": None,
            "proxy": None,
            "close_timeout": 1,
        }
        ws = await connect(ws_url(base), **{**settings, **options})
        if ws.subprotocol != chosen.subprotocol:
            raise Unreadable(f"the edge chose the subprotocol {ws.subprotocol!r}")
        link = cls(ws, chosen, trace or Trace("link"), number)
        link._record("open", {"url": base})
        return link

    def _record(self, what: What, message: Message) -> None:
        self.trace.add(asyncio.get_running_loop().time(), self.number, what, message)

    async def send(self, *messages: Message) -> None:
        """One frame: a single message, or an array of several."""
        for message in messages:
            self._record("sent", message)
        await self.ws.send(self.codec.dump(messages[0] if len(messages) == 1 else list(messages)))

    async def read(self) -> list[Message]:
        """The messages of the next frame, or what `expect` left of one. Raises ConnectionClosed once it is over."""
        if self._rest:
            rest, self._rest = self._rest, []
            return rest
        try:
            frame = await self.ws.recv()
        except ConnectionClosed:
            self.over()
            raise
        messages = self.codec.load(frame)
        for message in messages:
            self._record("got", message)
        return messages

    async def expect(self, *types: str, tx: str | None = None) -> Message:
        """The next message of one of these types (for `tx`, if given); others are recorded and passed over."""
        while True:
            messages = await self.read()
            for place, message in enumerate(messages, 1):
                if message["type"] in types and tx in (None, message.get("tx")):
                    self._rest = messages[place:]
                    return message

    def over(self) -> None:
        """Note that the connection has ended; once."""
        if not self.closed:
            self.closed = True
            code, reason = self.ws.close_code, self.ws.close_reason
            self._record("closed", {"code": 1006 if code is None else code, "reason": reason or ""})

    async def close(self) -> None:
        await self.ws.close()
        self.over()

    def abort(self) -> None:
        """Break the connection without a word, as a network does."""
        self.ws.transport.abort()
