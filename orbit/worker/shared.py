"""What the transactions of one process share, opened and closed with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from orbit.store.store import Store
from orbit.worker.config import WorkerConfig
from orbit.worker.delivery import Courier
from orbit.worker.discover import App
from orbit.worker.metrics import Metrics
from orbit.worker.processes import Processes
from orbit.worker.surroundings import Surroundings


@contextlib.asynccontextmanager
async def shared(
    config: WorkerConfig, store: Store, metrics: Metrics, app: App, *, alone: bool = False
) -> AsyncIterator[Surroundings]:
    """The surroundings, with the application's lifespan open; what is still to be delivered is, at the end."""
    async with contextlib.AsyncExitStack() as stack:
        context = None
        for lifespan in app.lifespans:
            context = await stack.enter_async_context(lifespan.open())
        processes = Processes(config.processes)
        stack.push_async_callback(processes.close)
        courier = Courier(store)
        stack.push_async_callback(courier.close)
        yield Surroundings(
            store, metrics, limits=config.limits, retry=config.retry, lease_s=config.lease_s,
            linger_s=config.linger_s, rebuild_always=config.rebuild_always, context=context,
            middleware=app.middleware, deliver=courier.deliver, deliver_again=courier.deliver_again,
            processes=processes, alone=alone,
        )  # fmt: skip
