"""`/livez`, `/readyz`, `/metrics` of a worker: the least of HTTP that a probe needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import generate_latest

from orbit.worker.metrics import Metrics

_LIMIT_S = 5.0


class Health:
    """Serves on `host:port` until it is closed. `ready()` is None, or says why not."""

    def __init__(self, metrics: Metrics, ready: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._ready = ready
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Begin to serve; the port. Raises OSError where it is taken."""
        self._server = await asyncio.start_server(self._serve, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                request = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                writer.write(self._answer(request))
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass
        finally:
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        path = request.split(b" ")[1].partition(b"?")[0] if request.count(b" ") >= 2 else b""
        if path == b"/livez":
            return _response(200, b"alive\n")
        if path == b"/readyz":
            reason = self._ready()
            return _response(200, b"ready\n") if reason is None else _response(503, reason.encode() + b"\n")
        if path == b"/metrics":
            return _response(200, generate_latest(self._metrics.registry), "text/plain; version=0.0.4; charset=utf-8")
        return _response(404, b"not found\n")


def _response(status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[status]
    lines = (
        f"HTTP/1.1 {status} {reason}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
