"""The life of an edge process."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from orbit.edge.access import Access
from orbit.edge.access.keyfile import KeyFile
from orbit.edge.config import EdgeConfig
from orbit.edge.edge import Edge
from orbit.edge.http.app import make_app
from orbit.edge.rates import networks
from orbit.edge.server import Server, listen, make_server, url_of
from orbit.edge.tasks import every
from orbit.errors import OrbitError
from orbit.store.store import Store

log = logging.getLogger("orbit.edge")

KEEPALIVE_S = 5.0
SPREAD_S, STAY_S = 10.0, 5.0
"""At a drain clients are told to come back elsewhere over this time; each is closed so long after its own time."""

Result = TypeVar("Result")


async def run_edge(config: EdgeConfig) -> None:
    """Serve until `config.stop` is set, then drain. Waits for Redis, saying so, where it isn't there.

    Raises:
        CannotListen: The address can't be served on.
        NoNetwork: A trusted proxy is none.
        KeysUnusable: The file with the keys isn't one.
        StoreUnusable: This Redis can't hold a deployment.
    """
    networks(config.trusted_proxies)  # before anything is opened
    access = open_access(config)
    with listen(config.host, config.port, insecure=config.insecure or access.in_force) as listener:
        store = await _unless_stopped(
            config.stop, Store.open(config.redis, config.store_settings(), wait=True, say=config.say)
        )
        if store is None:
            return
        try:
            await _serve(Edge(config, store, access), listener)
        finally:
            await store.close()


def open_access(config: EdgeConfig) -> Access:
    """Who may do what at an edge of this configuration. Raises KeysUnusable."""
    keys = None if config.token_keys is None else KeyFile(config.token_keys)
    return Access(keys, config.audience)


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What `work` returns; None where `stop` was set before, and `work` was cancelled."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


async def _serve(edge: Edge, listener: socket.socket) -> None:
    """Everything between opening the store and closing it. A side task that dies takes the edge down."""
    config = edge.config
    server = make_server(edge, make_app(edge))
    async with at_work(edge) as work:
        serving = asyncio.create_task(server.serve([listener]), name="server")
        stopped = asyncio.create_task(config.stop.wait(), name="stop")
        ready = asyncio.create_task(_say_ready(edge, url_of(listener, config.host)), name="ready")
        try:
            done, _ = await asyncio.wait([stopped, serving, *work], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
                raise OrbitError(f"the edge's {task.get_name()} ended by itself")
            await _drain(edge, server, serving)
        finally:
            for task in (stopped, ready, serving):
                task.cancel()
            await asyncio.gather(stopped, ready, serving, return_exceptions=True)
            await server.cut()


@asynccontextmanager
async def at_work(edge: Edge) -> AsyncIterator[list[asyncio.Task[None]]]:
    """All that an edge does beside serving; the tasks that do it, none of which ends by itself."""
    pulse = edge.config.pulse
    await edge.health.beat()
    work = [
        asyncio.create_task(work, name=name)
        for name, work in {
            "subscriber": edge.health.listen(),
            "own channel": _follow(edge),
            "beat": every(pulse.beat_s, edge.health.beat),
            "sweep": every(pulse.sweep_s, edge.health.sweep),
            "recent": edge.recent.run(),
            "leaving": edge.leaving.run(),
            "lag": edge.admission.watch(),
            "keys": every(pulse.keys_s, edge.look_at_keys),
            "keepalive": every(KEEPALIVE_S, lambda: _tick(edge)),
        }.items()
    ]
    try:
        yield work
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await edge.tasks.cancel()
        await edge.hub.tasks.cancel()


async def _follow(edge: Edge) -> None:
    """Listen on the own channel."""
    await edge.hub.subscriber.follow_edge(edge.id)
    await asyncio.Event().wait()


async def _say_ready(edge: Edge, url: str) -> None:
    await edge.health.until_delivering()
    edge.config.say(f"orbit edge ready {url}")


async def _tick(edge: Edge) -> None:
    now = asyncio.get_running_loop().time()
    for connection in tuple(edge.connections.values()):
        connection.tick(now)


async def _drain(edge: Edge, server: Server, serving: asyncio.Task[None]) -> None:
    """Turn away who comes, tell everyone when to go, close what stays, and free the sessions' places."""
    loop = asyncio.get_running_loop()
    edge.drain()
    drain_s = edge.config.timing.drain_s
    deadline = loop.time() + drain_s
    spread_s, stay_s = min(SPREAD_S, drain_s * 0.4), min(STAY_S, drain_s * 0.3)
    connections = tuple(edge.connections.values())
    closings = []
    for n, connection in enumerate(connections):
        leave_s = spread_s * n / len(connections)
        connection.go_away(math.ceil(leave_s * 1000))
        closings.append(loop.call_later(leave_s + stay_s, connection.shutdown))
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline - drain_s * 0.2):
            await edge.deserted()
    for closing in closings:
        closing.cancel()
    server.should_exit = True
    await asyncio.wait([serving], timeout=max(deadline - loop.time(), 0.5))
    await free_places(edge, deadline)


async def free_places(edge: Edge, deadline: float) -> None:
    """Free the sessions' places, and the edge's own name; what isn't done by `deadline` another edge does."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(max(deadline - loop.time(), 0.5)):
            await edge.leaving.settled()
            await edge.store.forget_edge(edge.id)
    except (OrbitError, TimeoutError) as error:
        log.info("leaving without having freed all places: %s", error or "no time left")
