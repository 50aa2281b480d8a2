"""An edge inside another ASGI application, on that application's server."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from websockets.frames import CloseCode

from orbit.edge.asgi_connection import AsgiConnection, Receive, Scope, Send, refuse
from orbit.edge.config import EdgeConfig
from orbit.edge.edge import Edge
from orbit.edge.host import stopping, tokens_hidden
from orbit.edge.http.app import make_app
from orbit.edge.run import at_work, free_places, open_access
from orbit.errors import Forbidden, RequestError, Unavailable
from orbit.store.store import Store

log = logging.getLogger("orbit.edge")


class MountedEdge:
    """An ASGI application with all that an edge serves: HTTP, server-sent events, WebSockets.

    It works between the begin and the end of its `lifespan`; before and after, requests are answered with 503. Served
    by itself it takes part in the server's lifespan; mounted in another application, that one's has to enter it.
    Where uvicorn serves it, its streams end as uvicorn begins to stop, and `?token=` isn't logged.
    """

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config
        self._edge: Edge | None = None
        self._http: Any = None
        self._stack: AsyncExitStack | None = None

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Be an edge of the deployment meanwhile. Waits for Redis, saying so, where it isn't there.

        Raises:
            KeysUnusable: The file with the keys isn't one.
            StoreUnusable: This Redis can't hold a deployment.
        """
        config, access = self._config, open_access(self._config)
        store = await Store.open(config.redis, config.store_settings(), wait=True, say=config.say)
        try:
            edge = Edge(config, store, access)
            async with at_work(edge) as work:
                watching = asyncio.create_task(_watch(edge, work), name="orbit edge")
                leaving = asyncio.create_task(_leave_with_host(edge), name="orbit edge leaving")
                self._edge, self._http = edge, make_app(edge)
                try:
                    with tokens_hidden():
                        yield
                finally:
                    watching.cancel()
                    leaving.cancel()
                    await self._leave(edge)
                    self._edge = None
        finally:
            await store.close()

    async def _leave(self, edge: Edge) -> None:
        _send_away(edge)
        deadline = asyncio.get_running_loop().time() + edge.config.timing.drain_s
        try:
            async with asyncio.timeout_at(deadline):
                await edge.deserted()
        except TimeoutError:
            log.info("leaving with %d connections open", len(edge.connections))
        await free_places(edge, deadline)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._edge is None:
            await _refuse(scope, receive, send, Unavailable("the edge isn't running here", retry_after_ms=1000))
        elif not (self._config.insecure or self._edge.access.in_force or _from_here(scope)):
            text = "without tokens an edge serves loopback addresses only; insecure=True lifts that"
            await _refuse(scope, receive, send, Forbidden(text))
        elif scope["type"] == "websocket":
            await AsgiConnection(self._edge, scope, receive, send).run()
        else:
            await self._http(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """As an application of its own: the server's lifespan."""
        async with AsyncExitStack() as stack:
            await receive()
            try:
                await stack.enter_async_context(self.lifespan())
            except Exception as error:
                log.exception("the edge can't begin")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _watch(edge: Edge, work: list[asyncio.Task[None]]) -> None:
    """A side task that dies makes the edge unready: it can't take down an application that isn't its own."""
    done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        log.error("the edge's %s ended by itself", task.get_name(), exc_info=task.exception())
    edge.drain()


async def _leave_with_host(edge: Edge) -> None:
    """The server waits for its connections before it ends the lifespan: what would last on ends before that."""
    await stopping()
    _send_away(edge)


def _send_away(edge: Edge) -> None:
    edge.drain()
    for connection in tuple(edge.connections.values()):
        connection.go_away(0)
        connection.shutdown()


def _from_here(scope: Scope) -> bool:
    """Whether the client is on this machine. One that isn't named came over a socket of this machine."""
    client = scope.get("client")
    try:
        return client is None or ipaddress.ip_address(client[0].partition("%")[0]).is_loopback
    except ValueError:
        return False


async def _refuse(scope: Scope, receive: Receive, send: Send, error: RequestError) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
    await refuse(scope, send, error, CloseCode.TRY_AGAIN_LATER)
