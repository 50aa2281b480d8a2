"""A connection before anyone knows what it wants: uvicorn's HTTP protocol, with limits on time, size and number.

Without them a client that sends the head of a request byte by byte, or without end, would be waited for and stored for
ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from orbit.edge.handshake import error_body
from orbit.errors import RequestError, TooLarge

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

HEAD_BYTES = 64 * 1024


class Incoming(HttpToolsProtocol):
    """One connection, until it is upgraded or closed."""

    def __init__(
        self,
        edge: Edge,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most = edge.admission.sockets
        self._head_s = edge.config.pulse.head_s
        self._late: asyncio.TimerHandle | None = None
        self._head_bytes = self._heads = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()  # another open file, and nothing works any more
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        heads = self._heads
        super().data_received(data)
        # What came with the end of a head is a body's, which has its own limits; the next head has but begun.
        if self._late is not None and self._heads == heads:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large", TooLarge(f"the head is over {HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        self._heads += 1
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        if self._late is None:
            self._late = self.loop.call_later(self._head_s, self._too_late)

    def _have_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: bytes, error: RequestError) -> None:
        self._have_head()
        body = error_body(error)
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head % (status, len(body)) + body)
            self.transport.close()
