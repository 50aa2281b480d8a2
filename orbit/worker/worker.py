"""A worker's life: opened, registered, claiming, drained."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from orbit.errors import OrbitError
from orbit.store import types as t
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.worker.care import Caretaker
from orbit.worker.claims import Claimer
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import App, load_app, queues_of, record_of, specs_of
from orbit.worker.finding import Finder
from orbit.worker.health import Health
from orbit.worker.metrics import Metrics
from orbit.worker.ranking import Ranks
from orbit.worker.renewer import Renewer, timeout_s
from orbit.worker.settling import BROKEN, persist
from orbit.worker.shared import shared
from orbit.worker.slots import Lending, Slots
from orbit.worker.surroundings import Surroundings

log = structlog.get_logger("orbit.worker")

_BEAT_S = 2.0
_BEAT_TTL_S = 7.0
"""A worker that didn't beat for so long counts no more, neither for what runs nor for who ranks first."""
_SWEEP_S = 1.0
"""Between two looks of the whole fleet at which edges stopped beating."""


class WorkerError(OrbitError):
    """A part of the worker died; the process must end."""


async def run_worker(config: WorkerConfig) -> None:
    """Run a worker until `config.stop` is set, then drain it.

    Returns when everything was handed over, or dropped at `drain_s`.

    Raises:
        DefinitionError: APP can't be run; one line.
        Whatever its lifespan raises.
        StoreUnusable: This Redis can't hold a deployment; one line.
        WorkerError: A part of it died.
    """
    app = load_app(config.app)
    opening = asyncio.ensure_future(Store.open(config.redis, config.store_settings(), wait=True, say=config.say))
    stopping = asyncio.ensure_future(config.stop.wait())
    try:
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return
        await Worker(config, opening.result(), app).live()
    finally:
        for task in (opening, stopping):
            task.cancel()
        await asyncio.wait((opening, stopping))


class Worker:
    """One worker on an open store, which it closes."""

    def __init__(self, config: WorkerConfig, store: Store, app: App) -> None:
        self.id = f"{socket.gethostname()[:32]}-{secrets.token_hex(5)}"
        self.metrics = Metrics()
        self.health_url = ""
        self._config = config
        self._store = store
        self._app = app
        self._queues = queues_of(app, config.queues)
        self._states = {spec: cls for cls in app.states for spec in specs_of(cls, self._queues)}
        self._specs = tuple(self._states)
        self._records = [record_of(cls) for cls in app.states]
        self._ranks = Ranks(self.id)
        self._renewer = Renewer(
            self._open_again, self.id, config.lease_s, self.metrics, lambda found: self._slots.renewed(found), self._die
        )
        self._subscriber = Subscriber(
            store, on_wake=self._on_wake, on_nudge=lambda nudge: self._slots.nudge(nudge), on_gap=self._on_gap
        )
        store.link.on_again = self._on_gap
        self._slots: Slots
        self._claimer: Claimer
        self._care: Caretaker
        self._finder: Finder
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._beat_now = asyncio.Event()
        self._full = False
        self._publish_again = False
        self._ready = False
        self._draining = False

    async def live(self) -> None:
        """Until the config's `stop` is set and all is handed over."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._store.close)
            health = Health(self.metrics, self._unready)
            stack.push_async_callback(health.close)
            if self._config.health_port is not None:
                port = await health.open(self._config.health_host, self._config.health_port)
                self.health_url = f"http://{self._config.health_host}:{port}"
                self._config.say(f"orbit worker health at {self.health_url}")
            stopped = asyncio.ensure_future(self._config.stop.wait())
            stack.callback(stopped.cancel)
            working = asyncio.ensure_future(self._work(stopped))
            await asyncio.wait((stopped, working), return_when=asyncio.FIRST_COMPLETED)
            if not self._ready:
                working.cancel()  # told to stop before Redis had let it begin
            await asyncio.wait((working,))
            if not working.cancelled():
                working.result()
        if self._died.done():
            self._died.result()

    async def _work(self, stopped: asyncio.Future[Any]) -> None:
        async with shared(self._config, self._store, self.metrics, self._app) as around, self._parts(around):
            names = ", ".join(cls.__orbit__.name for cls in self._app.states)
            self._config.say(f"orbit worker ready {self.id}: {names} on {', '.join(self._queues)}")
            await asyncio.wait((stopped, self._died), return_when=asyncio.FIRST_COMPLETED)
            await self._drain()

    @contextlib.asynccontextmanager
    async def _parts(self, around: Surroundings) -> AsyncIterator[None]:
        """Everything that goes on beside the transactions; a part that dies ends the worker."""
        config = self._config
        self._slots = Slots(
            around, self._states, config.concurrency, self._renewer, self._on_room, Lending.of(config, self.id)
        )
        self._claimer = Claimer(
            self._store, self.id, self._specs, config.lease_s, lambda: self._slots.room, self._slots.grant,
            self._slots.hurry,
        )  # fmt: skip
        self._finder = Finder(self._ranks, self._specs, self._store.partitions, self._claimer.want)
        self._care = Caretaker(self._store, self._ranks, self._finder.visit, around.deliver_again)
        await persist(self._publish)
        await persist(self._beat)
        self._renewer.start()
        parts = [self._watch("subscriber", self._subscriber.run())]
        try:
            await self._subscriber.follow_partitions(self.id)
            parts += [
                self._watch("registry", self._registry()),
                self._watch("rounds", self._care.rounds()),
                self._watch("sweep", self._sweep()),
            ]
            self._ready = True
            self._look_everywhere()
            yield
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
            self._finder.close()
            await self._care.close()
            await self._renewer.stop()

    async def _publish(self) -> None:
        self._publish_again = False
        await self._store.record_again()
        await self._store.publish_states(self._records)

    def _watch(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def watched() -> None:
            try:
                await work
            except Exception as error:
                log.exception("a part of the worker died", part=name)
                self._die(error)

        return asyncio.ensure_future(watched())

    def _die(self, error: BaseException) -> None:
        if not self._died.done():
            self._died.set_exception(WorkerError(f"a part of the worker died: {type(error).__name__}: {error}"))

    async def _open_again(self) -> Store:
        """The renewing thread's own connection. A renewal acknowledges nothing, so it waits for no replica."""
        settings = replace(self._config.store_settings(), timeout_s=timeout_s(self._config.lease_s))
        return await Store.open(self._config.redis, settings, wait=True, keep=False)

    def _unready(self) -> str | None:
        if self._draining:
            return "draining"
        if not self._ready:
            return "starting"
        return None if self._subscriber.delivers else "Redis doesn't deliver"

    async def _drain(self) -> None:
        self._draining = True
        drained = asyncio.ensure_future(self._slots.drain(self._config.drain_s))
        try:
            async with asyncio.timeout(self._config.drain_s):
                await self._claimer.close()
                await self._store.forget_worker(self.id)
        except (TimeoutError, *BROKEN):
            pass  # it is forgotten when its beat runs out
        await drained

    # ---- what is heard

    def _on_wake(self, wake: t.ReadyWake | t.DueWake) -> None:
        if isinstance(wake, t.DueWake):
            self._care.heard(wake)
        else:
            self._finder.heard(wake)

    def _on_gap(self) -> None:
        self._publish_again = True  # Redis may have lost it
        self._look_everywhere()

    def _look_everywhere(self) -> None:
        """At the beginning, and after anything may have been missed."""
        if not self._ready:
            return
        self._slots.nudge_all()
        self._care.look(range(self._store.partitions))
        self._finder.look_everywhere()

    def _on_room(self) -> None:
        self._claimer.pump_soon()
        if self._full and self._slots.room > 0:
            self._beat_now.set()

    # ---- what is said

    async def _registry(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_S * random.uniform(0.8, 1.0)):
                    await self._beat_now.wait()
            self._slots.watch()
            if self._draining:
                return  # it has left the register
            if not self._subscriber.delivers:
                self._look_everywhere()  # what is ready must be found all the same
            with contextlib.suppress(*BROKEN):
                if self._publish_again:
                    await self._publish()
                await self._beat()

    async def _beat(self) -> None:
        self._beat_now.clear()
        room = self._slots.room
        self._full = room == 0
        await self._store.beat_worker(t.WorkerRecord(self.id, self._specs, room), _BEAT_TTL_S)
        if self._ranks.learn(await self._store.workers()) and self._ready:
            self._care.look(p for p in range(self._store.partitions) if self._ranks.for_care(p) == 0)
            self._finder.visit_all()

    async def _sweep(self) -> None:
        """Free the places of edges that are gone; each worker does it, the more there are the more seldom."""
        while True:
            await asyncio.sleep(_SWEEP_S * self._ranks.workers * random.uniform(0.6, 1.4))
            with contextlib.suppress(*BROKEN):
                await self._store.sweep_edges()
