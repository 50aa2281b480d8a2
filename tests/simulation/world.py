"""A whole deployment in one event loop: real workers, real edges, clients, and the simulated Redis between them."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import structlog

from orbit.config import Limits, RetryPolicy, Timing
from orbit.edge.asgi_connection import AsgiConnection
from orbit.edge.config import EdgeConfig, Pulse
from orbit.edge.edge import Edge
from orbit.edge.run import at_work, free_places
from orbit.errors import OrbitError
from orbit.state import LeaveRun, State
from orbit.store.durability import MEMORY
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.testing.clock import virtual_time
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import App
from orbit.worker.renewer import Renewer
from orbit.worker.worker import Worker
from tests.simulation.audit import AUDITS
from tests.simulation.loop import Process, SimLoop, here
from tests.simulation.network import Network
from tests.simulation.server import Server
from tests.simulation.sockets import SimSocket

LEASE_S = 2.0
SETTINGS = StoreSettings(grace_s=0.5, timeout_s=1.0)
PULSE = Pulse(
    probe_s=1.0, deaf_s=2.5, beat_s=1.0, dead_s=3.0, sweep_s=1.0, recent_s=0.5, linger_s=0.2, advance_s=0.1, retry_s=0.3
)
_EXPECTED = ("an outbox wasn't delivered: it is tried again later",)
"""Errors in a worker's log that Redis asks for."""
ASKED = "as the message asked"
"""The text of errors that the States raise on purpose."""
_OPEN_S = 1.0


class World:
    """Everything of one run.

    Attributes:
        seed: All that is drawn at random comes from it.
        found: What was seen that must not be.
        digest: Of every command that the server executed, its time and its answer: equal in runs that are equal.
    """

    def __init__(self, loop: SimLoop, seed: int, states: Sequence[type[State]], partitions: int = 2) -> None:
        self.loop = loop
        self.seed = seed
        self.app = App(tuple(states))
        self.partitions = partitions
        self.network = Network(loop, random.Random(f"network {seed}"))
        self.server = Server(loop, self.network, random.Random(f"server {seed}"))
        self.rng = random.Random(f"world {seed}")
        self.found: list[str] = []
        self.digest = hashlib.blake2b(digest_size=16)
        self.server.on_answer = self._note_answer
        self.workers: list[WorkerProcess] = []
        self.edges: dict[str, EdgeProcess] = {}
        self.over = False
        self.durability = MEMORY
        self._count = 0

    def finding(self, what: str) -> None:
        if not self.over:
            self.found.append(f"at {self.loop.time():.3f}: {what}")

    def _note_answer(self, name: str, fields: list[bytes], reply: Any) -> None:
        self.digest.update(repr((self.loop.time(), fields, reply)).encode())
        audit = AUDITS.get(name)
        if audit is not None:
            self.found += [f"at {self.loop.time():.3f}: {what}" for what in audit(self.server.engine, fields, reply)]

    def process(self, name: str) -> Process:
        return Process(name, self.loop)

    def settings(self) -> StoreSettings:
        return replace(SETTINGS, partitions=self.partitions, durability=self.durability)

    async def open_store(self) -> Store:
        """The store, as a process opens it that waits for Redis."""
        while True:
            try:
                return await Store.over(self.server.connect, self.settings())  # type: ignore[arg-type]
            except OrbitError:
                await asyncio.sleep(0.1)

    def add_worker(self) -> WorkerProcess:
        self._count += 1
        worker = WorkerProcess(self, f"worker-{self._count}")
        self.workers.append(worker)
        return worker

    def add_edge(self, host: str) -> EdgeProcess:
        self._count += 1
        edge = self.edges[host] = EdgeProcess(self, f"{host}-{self._count}")
        return edge

    async def connect(self, url: str, **options: Any) -> SimSocket:
        """What stands for `websockets.connect` here."""
        host = url.split("/")[2]
        await asyncio.sleep(self.network.delay_s())
        edge = self.edges.get(host)
        if edge is None or not edge.listening:
            raise ConnectionRefusedError(f"{host} isn't there")
        return await edge.open(options["subprotocols"][0])


class _Parts:
    """A process of the system: one loop or several, which die together."""

    def __init__(self, world: World, *parts: Process) -> None:
        self.world = world
        self.parts = parts
        self.main = parts[0]

    @property
    def dead(self) -> bool:
        return self.main.dead

    def pause(self) -> None:
        for part in self.parts:
            part.pause()

    def wake(self) -> None:
        for part in self.parts:
            part.wake()

    def kill(self) -> None:
        for part in self.parts:
            part.kill()
            self.world.server.close_of(part)


class WorkerProcess(_Parts):
    """A worker: its loop, and the thread that renews its leases."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, world.process(name), world.process(f"{name}/leases"))
        self.stop: asyncio.Event | None = None
        self.worker: Worker | None = None
        self.over = False
        _threads[self.main] = self
        self.main.spawn(self._live(), name)

    async def _live(self) -> None:
        world, self.stop = self.world, asyncio.Event()
        store = await world.open_store()
        config = WorkerConfig(
            app="simulated", redis="simulated", lease_s=LEASE_S, drain_s=2.0, linger_s=0.5, processes=1,
            partitions=world.partitions, say=lambda line: None, limits=Limits(), retry=RetryPolicy(), stop=self.stop,
        )  # fmt: skip
        self.worker = Worker(config, store, world.app)
        try:
            await self.worker.live()
        except Exception as error:
            world.finding(f"{self.main} ended: {type(error).__name__}: {error}")
        self.over = True


_threads: dict[Process, WorkerProcess] = {}


class SimRenewer(Renewer):
    """The renewing thread as a neighbour of the worker's loop: it goes on while that is blocked."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._process = _threads[here()]
        self._open_store = self._process.world.open_store
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._process.parts[1].spawn(self._renew(), "leases")
        self._pulse.start()

    async def stop(self) -> None:
        self._pulse.stop()
        self._lapses.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _tell(self, what: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon(what, *arguments, context=self._process.main.context)

    async def _renew(self) -> None:
        try:
            await self._renew_until_stopped()
        except Exception as error:
            self._tell(self._on_death, error)


class EdgeProcess(_Parts):
    """An edge, and the connections that its clients have to it."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, world.process(name))
        self.edge: Edge | None = None
        self.listening = True
        self.over = False
        self._arrived: list[SimSocket] = []
        self._sockets: dict[SimSocket, None] = {}
        self._stop: asyncio.Event | None = None
        self.main.spawn(self._live(), name)

    async def _live(self) -> None:
        world, self._stop = self.world, asyncio.Event()
        store = await world.open_store()
        config = EdgeConfig(
            redis="simulated", partitions=world.partitions, pulse=PULSE,
            timing=Timing(grace_s=SETTINGS.grace_s, drain_s=2.0),
        )  # fmt: skip
        edge = Edge(config, store)
        try:
            async with at_work(edge) as work:
                self.edge = edge
                for socket in self._arrived:
                    self._serve(socket)
                stopped = asyncio.create_task(self._stop.wait())
                done, _ = await asyncio.wait([stopped, *work], return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopped}:
                    world.finding(f"{self.main}: its {task.get_name()} ended: {task.exception()}")
                await self._drain(edge)
        finally:
            await store.close()
        self.over = True

    async def _drain(self, edge: Edge) -> None:
        self.listening = False
        edge.drain()
        for n, connection in enumerate(tuple(edge.connections.values())):
            connection.go_away(n * 100)
            self.world.loop.call_later(0.5 + n * 0.1, connection.shutdown)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                await edge.deserted()
        await free_places(edge, self.world.loop.time() + 0.5)

    def drain(self) -> None:
        """As on SIGTERM."""
        self.listening = False
        if self._stop is not None:
            self.main.later(0.0, self._stop.set)
        else:
            self.kill()

    def kill(self) -> None:
        self.listening = False
        super().kill()
        for socket in self._sockets:
            socket.edge_died()
        self._sockets.clear()

    async def open(self, subprotocol: str) -> SimSocket:
        """A client's handshake."""
        socket = SimSocket(self.world.network, self.main, subprotocol)
        self._sockets[socket] = None
        self.main.later(self.world.network.delay_s(), self._arrive, socket)
        async with asyncio.timeout(_OPEN_S):
            await socket.accepted()
        return socket

    def _arrive(self, socket: SimSocket) -> None:
        if self.edge is None:
            self._arrived.append(socket)
        else:
            self._serve(socket)

    def _serve(self, socket: SimSocket) -> None:
        assert self.edge is not None
        connection = AsgiConnection(self.edge, socket.scope(), socket.edge_receive, socket.edge_send)
        task = self.main.loop.create_task(connection.run())
        task.add_done_callback(lambda _: self._sockets.pop(socket, None))


# ---- a run


@contextmanager
def simulated(world: World) -> Iterator[None]:
    """While the block runs, all that the product draws, reads off a clock, or connects to is the world's."""
    drawn = random.Random(f"product {world.seed}")
    state = random.getstate()
    random.seed(f"product {world.seed}")
    with ExitStack() as stack:
        stack.enter_context(virtual_time(world.loop))
        for target, stands_in in (
            ("secrets._sysrand", drawn), ("secrets.randbits", drawn.getrandbits), ("secrets.choice", drawn.choice),
            ("socket.gethostname", lambda: "simulated"), ("orbit.worker.worker.Renewer", SimRenewer),
            ("orbit.verify.link.connect", world.connect), ("orbit.client.link.connect", world.connect),
        ):
            stack.enter_context(mock.patch(target, stands_in))
        stack.enter_context(_logs(world))
        try:
            yield
        finally:
            random.setstate(state)
            _threads.clear()


def _where(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_tb(error.__traceback__)[-2:])


@contextmanager
def _logs(world: World) -> Iterator[None]:
    """An error that a worker or an edge logs is a finding; all else is dropped."""

    def look(_logger: Any, method: str, event: dict[str, Any]) -> Any:
        if method in ("error", "exception", "critical") and event["event"] not in _EXPECTED:
            error = sys.exc_info()[1]
            if error is None or str(error) != ASKED:
                world.finding(f"{here()} logged {event} {error!r}{_where(error)}")
        raise structlog.DropEvent

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            world.finding(f"{here()} logged {record.getMessage()} {record.exc_info and record.exc_info[1]!r}")

    before = structlog.get_config()
    structlog.configure(processors=[look], cache_logger_on_first_use=False)
    edges, handler = logging.getLogger("orbit"), Handler(logging.ERROR)
    level, propagate = edges.level, edges.propagate
    edges.setLevel(logging.ERROR)
    edges.propagate = False
    edges.addHandler(handler)
    try:
        yield
    finally:
        structlog.configure(**before)
        edges.removeHandler(handler)
        edges.setLevel(level)
        edges.propagate = propagate


def run_world(
    seed: int, states: Sequence[type[State]], main: Callable[[World], Awaitable[None]], *, partitions: int = 2
) -> World:
    """Build a world, run `main(world)` in it to its end, and take it down."""
    collects = gc.isenabled()
    gc.disable()  # what it would take down, and when, is not in the seed
    loop = SimLoop(random.Random(f"turns {seed}"))
    world = World(loop, seed, states, partitions)

    def heard(_loop: Any, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), LeaveRun):
            world.finding(f"{context.get('message')} {context.get('exception')!r}")

    loop.set_exception_handler(heard)
    try:
        with simulated(world):
            loop.run_until_complete(loop.world.spawn(main(world)))  # type: ignore[arg-type]
            world.over = True
            loop.let_go()
    finally:
        world.over = True
        loop.let_go()
        loop.close()
        if collects:
            gc.enable()
    return world

