"""The listening socket and uvicorn's server, without its handling of signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from orbit.edge.connection import Connection
from orbit.edge.incoming import Incoming
from orbit.errors import OrbitError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from orbit.edge.edge import Edge

BACKLOG = 2048
UNSENT_BYTES = 128 * 1024
"""What the system takes for a client beyond what is on its way. Unless told it takes megabytes: a thousand clients that
read nothing would fill the machine's memory, although this process keeps little for each."""
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class CannotListen(OrbitError):
    """This address can't be served on; the text says why in one line."""


class Server(uvicorn.Server):
    """uvicorn's server. The process owns the signals: see `orbit.cli.life`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def cut(self) -> None:
        """Listen no more, and break what is still connected."""
        for listening in getattr(self, "servers", ()):
            listening.close()
        for connection in tuple(self.server_state.connections):
            transport = cast(asyncio.Transport | None, getattr(connection, "transport", None))
            if transport is not None:
                transport.abort()
        for _ in range(10):  # each transport tells its protocol in a pass of the loop of its own
            if self.server_state.connections:
                await asyncio.sleep(0)


def listen(host: str, port: int, *, insecure: bool) -> socket.socket:
    """A socket that listens on `host`.

    Raises:
        CannotListen: The port is in use, the address isn't this machine's, or others could reach it without a token.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(f"--host {host}: {error.strerror or error}") from None
    found.sort(key=lambda entry: entry[0] is not socket.AF_INET)
    family, _, _, _, address = found[0]
    reachable = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not insecure and not all(ipaddress.ip_address(text).is_loopback for text in reachable):
        raise CannotListen(
            f"--host {host}: without tokens an edge serves on loopback addresses only; --insecure lifts that"
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # what is accepted inherits it
            listener.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        advice = "; --port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise CannotListen(f"can't listen on {host}:{port}: {error.strerror or error}{advice}") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """Where a client on this machine reaches `listener`."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(edge: Edge, app: Starlette) -> Server:
    """A server for the edge's HTTP and, on the same port, its WebSockets."""
    config = uvicorn.Config(
        app,
        http=cast(Any, functools.partial(Incoming, edge)),
        ws=cast(Any, functools.partial(Connection, edge)),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return Server(config)
