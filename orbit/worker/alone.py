"""The process for one transaction: it goes on with a grant that a worker lends it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import structlog

from orbit.config import Limits, RetryPolicy
from orbit.store import types as t
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import load_app, queues_of, specs_of
from orbit.worker.isolation import Loan
from orbit.worker.lease import now_s
from orbit.worker.metrics import Metrics
from orbit.worker.renewer import Renewer, timeout_s
from orbit.worker.settling import persist
from orbit.worker.shared import shared
from orbit.worker.slots import Slots

log = structlog.get_logger("orbit.worker")

_WATCH_S = 2.0


async def run_alone(text: str, stop: asyncio.Event) -> None:
    """Run the transaction of the loan that `text` tells until it leaves, or `stop` is set: then it is handed over.

    Raises:
        DefinitionError: APP can't be loaded any more.
    """
    loan = Loan.of(text)
    config = config_of(loan, stop)
    app = load_app(config.app)
    states = {spec: cls for cls in app.states for spec in specs_of(cls, queues_of(app, config.queues))}
    settings = config.store_settings()
    store = await Store.open(config.redis, settings, wait=True)
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        around = await stack.enter_async_context(shared(config, store, metrics, app, alone=True))
        over = asyncio.Event()
        soon = replace(settings, timeout_s=timeout_s(config.lease_s))
        renewer = Renewer(
            lambda: Store.open(config.redis, soon, wait=True, keep=False), loan.worker, config.lease_s, metrics,
            lambda found: slots.renewed(found), lambda error: over.set(),
        )  # fmt: skip
        slots = Slots(around, states, 1, renewer, over.set)
        subscriber = Subscriber(store, on_nudge=slots.nudge, on_gap=slots.nudge_all)
        hearing = asyncio.ensure_future(subscriber.run())
        stack.push_async_callback(_ended, hearing)
        await subscriber.follow_worker(store.partition_of(loan.grant.tx), loan.worker)
        renewer.start()
        stack.push_async_callback(renewer.stop)
        asked_s = await _take_over(store, loan, config.lease_s)
        if asked_s is None:
            log.warning("what was lent is another worker's by now", tx=loan.grant.tx)
            return
        slots.grant(loan.grant, asked_s)
        loan.say_begun()
        watching = asyncio.ensure_future(_watch(slots))
        stack.push_async_callback(_ended, watching)
        stopped = asyncio.ensure_future(stop.wait())
        left = asyncio.ensure_future(over.wait())
        stack.push_async_callback(_ended, stopped)
        await asyncio.wait((stopped, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        await slots.drain(config.drain_s)


async def _take_over(store: Store, loan: Loan, lease_s: float) -> float | None:
    """Renew the lease that was lent: the start may have taken long. When that was asked for, or None: it is lost."""
    grant, asked_s = loan.grant, 0.0

    async def renew() -> t.Renewal:
        nonlocal asked_s
        asked_s = now_s()
        held = t.Held(grant.tx, grant.epoch, grant.number)
        return await store.renew(store.partition_of(grant.tx), loan.worker, (held,), int(lease_s * 1000))

    renewal = await persist(renew)
    return None if grant.tx in renewal.lost else asked_s


async def _watch(slots: Slots) -> None:
    while True:
        await asyncio.sleep(_WATCH_S)
        slots.watch()


def config_of(loan: Loan, stop: asyncio.Event) -> WorkerConfig:
    """The settings of the worker that lends."""
    said = dict(loan.settings)
    limits, retry = Limits(**said.pop("limits")), RetryPolicy(**said.pop("retry"))
    said["queues"] = tuple(said["queues"])
    return WorkerConfig(**said, limits=limits, retry=retry, stop=stop)


async def _ended(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
