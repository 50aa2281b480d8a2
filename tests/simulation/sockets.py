"""WebSockets over the simulated network: one end speaks ASGI to the real edge, the other is what clients take for one
of the library `websockets`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.exceptions import ConnectionClosedError
from websockets.frames import CloseCode

from tests.simulation.loop import Process, here
from tests.simulation.network import Network, Way

WINDOW_BYTES = 64 * 1024
"""So much may be on its way to a client, and in its buffers, before the edge's sending waits."""
ABNORMAL = 1006

Serve = Callable[[Any, Any, Any], Awaitable[None]]


class SimSocket:
    """One connection.

    Attributes:
        slow_s: How long the client takes for each frame.
    """

    def __init__(self, network: Network, edge: Process, subprotocol: str) -> None:
        self.edge = edge
        self.client = here()
        self.subprotocol = subprotocol
        self.close_code: int | None = None
        self.close_reason = ""
        self.transport = self
        self.slow_s = 0.0
        self._to_edge = Way(network, edge, self._edge_got)
        self._to_client = Way(network, self.client, self._client_got)
        self._to_window = Way(network, edge, self._taken)
        self._frames: deque[str | bytes] = deque()
        self._events: deque[dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self._stirred: dict[str, asyncio.Future[None]] = {}
        self._window = 0
        self._gone = False
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        network.loop.number += 1
        self._number = network.loop.number

    def __hash__(self) -> int:
        return self._number

    # ---- the edge's end

    def scope(self) -> dict[str, Any]:
        return {
            "type": "websocket", "path": "/v1/ws", "query_string": b"", "headers": [(b"host", b"edge")],
            "client": ("127.0.0.1", 1), "subprotocols": [self.subprotocol],
        }  # fmt: skip

    async def edge_receive(self) -> dict[str, Any]:
        while not self._events:
            await self._until("edge")
        return self._events.popleft()

    async def edge_send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "websocket.send":
                data = message["text"] if message.get("text") is not None else message["bytes"]
                while self._window > WINDOW_BYTES and not self._gone:
                    await self._until("window")
                self._window += len(data)
                self._to_client.send(("frame", data))
            case "websocket.accept":
                self._to_client.send(("accepted", None))
            case "websocket.close":
                self._to_client.send(("closed", (message.get("code", 1000), message.get("reason", ""))))
                self._edge_gone()

    def edge_died(self) -> None:
        """The edge's system closes what it had open."""
        self._edge_gone()
        self._to_client.send(("closed", (ABNORMAL, "")))

    def _edge_got(self, event: dict[str, Any]) -> None:
        if self._gone:
            return
        self._events.append(event)
        if event["type"] == "websocket.disconnect":
            self._edge_gone()
        self._stir("edge")

    def _edge_gone(self) -> None:
        self._gone = True
        self._stir("window")

    def _taken(self, size: int) -> None:
        self._window -= size
        self._stir("window")

    # ---- the client's end

    async def accepted(self) -> None:
        """Return when the edge has taken the connection. Raises ConnectionRefusedError."""
        await self._accepted

    async def recv(self) -> str | bytes:
        while not self._frames:
            if self.close_code is not None:
                raise ConnectionClosedError(None, None)
            await self._until("client")
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        frame = self._frames.popleft()
        self._to_window.send(len(frame))
        return frame

    async def send(self, data: str | bytes, text: bool | None = None) -> None:
        if self.close_code is not None:
            raise ConnectionClosedError(None, None)
        if isinstance(data, bytes) and text:
            data = data.decode()
        kind = "text" if isinstance(data, str) else "bytes"
        self._to_edge.send({"type": "websocket.receive", kind: data})

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        if self.close_code is None:
            self._to_edge.send({"type": "websocket.disconnect", "code": code})
            self._over(code, reason)

    def abort(self) -> None:
        """Break off without a word; what was sent before may still arrive."""
        if self.close_code is None:
            self._to_edge.send({"type": "websocket.disconnect", "code": ABNORMAL})
            self._over(ABNORMAL, "")

    def lose(self) -> None:
        """The network breaks: what is on its way either way is lost."""
        self._to_edge.cut = self._to_client.cut = True
        if self.close_code is None:
            self.client.later(0.001, self._over, ABNORMAL, "")
        self.edge.later(0.001, self._edge_got, {"type": "websocket.disconnect", "code": ABNORMAL})

    def _client_got(self, what: tuple[str, Any]) -> None:
        kind, body = what
        if self.close_code is not None:
            return
        if kind == "accepted":
            if not self._accepted.done():
                self._accepted.set_result(None)
        elif kind == "closed":
            self._over(*body)
        else:
            self._frames.append(body)
            self._stir("client")

    def _over(self, code: int, reason: str) -> None:
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            if not self._accepted.done():
                self._accepted.set_exception(ConnectionRefusedError("the edge closed"))
            self._stir("client")

    async def __aenter__(self) -> SimSocket:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- both

    async def _until(self, whose: str) -> None:
        self._stirred[whose] = asyncio.get_running_loop().create_future()
        await self._stirred[whose]

    def _stir(self, whose: str) -> None:
        waiting = self._stirred.get(whose)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
