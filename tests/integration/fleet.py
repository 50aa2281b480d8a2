"""Real workers in this process, on one store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from orbit.protocol.ids import TxId
from orbit.state import Middleware, State
from orbit.store import types as t
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import App
from orbit.worker.worker import Worker

LEASE_S = 30.0
"""Outlasts a machine that stands still: a test that needs a lease to run out gives its own `lease_s`."""


class Fleet:
    """Workers on one store, started and stopped by a test."""

    def __init__(self, url: str, store: Store) -> None:
        self.url = url
        self.store = store
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self._running: dict[Worker, tuple[WorkerConfig, asyncio.Task[None]]] = {}

    async def worker(
        self, *classes: type[State], middleware: tuple[Middleware, ...] = (), redis: str = "", **options: Any
    ) -> Worker:
        """A worker that is ready. `redis`: its own way there."""
        config = WorkerConfig(
            app="", redis=redis or self.url, namespace=self.store.settings.namespace, say=self.said.put_nowait,
            **{"linger_s": 0.05, "lease_s": LEASE_S, **options},
        )  # fmt: skip
        store = await Store.open(config.redis, self.store.settings)
        worker = Worker(config, store, App(classes, middleware=middleware))
        self._running[worker] = config, asyncio.ensure_future(worker.live())
        while "ready" not in await self.said.get():
            pass
        return worker

    async def drain(self, worker: Worker) -> float:
        """The seconds that it took."""
        config, task = self._running.pop(worker)
        began = time.perf_counter()
        config.stop.set()
        await task
        return time.perf_counter() - began

    def forget(self, worker: Worker) -> tuple[WorkerConfig, asyncio.Task[None]]:
        """Leave the worker to the test."""
        return self._running.pop(worker)

    async def close(self) -> None:
        for worker in tuple(self._running):
            await self.drain(worker)


async def until(store: Store, tx: TxId, found: Callable[[t.Transaction], bool]) -> t.Transaction:
    """Follow the transaction's announcements until it is as wanted."""
    moved = asyncio.Event()
    subscriber = Subscriber(store, on_live=lambda tx, message: moved.set())
    async with running(subscriber.run()):
        await subscriber.watch(tx)
        while True:
            moved.clear()
            transaction = await store.get(tx)
            assert transaction is not None
            if found(transaction):
                return transaction
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):  # release and claim announce nothing
                    await moved.wait()


@contextlib.asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def status(wanted: str) -> Callable[[t.Transaction], bool]:
    return lambda transaction: transaction.status == wanted


