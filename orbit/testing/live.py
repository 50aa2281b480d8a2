"""A worker and an edge on a real server, in one event loop: what the fixture `orbit_dev` runs in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from orbit.edge import EdgeConfig, run_edge
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import App
from orbit.worker.worker import Worker

_PARTITIONS = 16


class LiveFleet:
    """One worker and one edge.

    Attributes:
        up: Set when both are ready, or when they can't be: then `error` says why.
    """

    def __init__(self, redis: str, app: App) -> None:
        self.up = threading.Event()
        self.url = ""
        self.error: BaseException | None = None
        self._redis = redis
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    async def live(self) -> None:
        """Until `stop`."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._live(self._stopping)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.up.set()

    def stop(self) -> None:
        """From any thread."""
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _live(self, stopping: asyncio.Event) -> None:
        ready = {"worker": asyncio.Event(), "edge": asyncio.Event()}

        def heard(line: str) -> None:
            for name, event in ready.items():
                if line.startswith(f"orbit {name} ready"):
                    event.set()
                    if name == "edge":
                        self.url = line.split()[-1]

        store = await Store.open(self._redis, StoreSettings(partitions=_PARTITIONS))
        worker_config = WorkerConfig("", self._redis, say=heard, rebuild_always=True, drain_s=1.0, stop=stopping)
        worker = asyncio.ensure_future(Worker(worker_config, store, self._app).live())
        edge = asyncio.ensure_future(run_edge(EdgeConfig(self._redis, port=0, say=heard, stop=stopping)))
        parts = [worker, edge]
        begun = asyncio.ensure_future(_all(ready.values()))
        try:
            await asyncio.wait((*parts, begun), return_when=asyncio.FIRST_COMPLETED)
            if begun.done():
                self.up.set()
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            stopping.set()
            await asyncio.gather(*parts)


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
