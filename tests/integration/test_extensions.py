"""`orbit.lifespan` and `orbit.middleware`: opened once per worker, called around each piece of a State's code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import orbit
from orbit import Connection, DefinitionError
from orbit.store.store import Store
from orbit.worker.config import WorkerConfig
from orbit.worker.discover import load_app
from orbit.worker.worker import run_worker
from tests.integration.fleet import Fleet, status, until
from tests.integration.house import House
from tests.integration.probes import Probe, Probed, nothing

APP = '''
import orbit
from orbit import State

EVENTS = []

@orbit.lifespan
async def resources():
    EVENTS.append("opened")
    try:
        yield {"greeting": "hello"}
    finally:
        EVENTS.append("closed")

@orbit.middleware
async def noted(call, proceed):
    EVENTS.append(call.hook)
    return await proceed()

class Greet(State):
    async def run(self) -> str:
        EVENTS.append("ran")
        return self.context["greeting"]
'''


async def test_what_a_lifespan_opens_is_there_for_all_and_closed_last(
    house: House, store: Store, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    app = tmp_path / "app_with_a_lifespan.py"
    app.write_text(APP)
    said: asyncio.Queue[str] = asyncio.Queue()
    config = WorkerConfig(str(app), redis_url, namespace=namespace, say=said.put_nowait, linger_s=0.05)
    worker = asyncio.ensure_future(run_worker(config))
    assert "orbit worker ready" in await said.get()
    import app_with_a_lifespan  # type: ignore[import-not-found]

    txs = [await house.start(app_with_a_lifespan.Greet) for _ in range(2)]
    for tx in txs:
        await until(store, tx, status("finished"))
        assert await house.end(tx) == ("finished", "hello")
    config.stop.set()
    await worker
    assert app_with_a_lifespan.EVENTS == ["opened", "run", "ran", "run", "ran", "closed"]


async def test_one_that_raises_keeps_the_worker_from_starting(redis_url: str, namespace: str, tmp_path: Path) -> None:
    app = tmp_path / "app_that_fails.py"
    app.write_text(APP.replace('EVENTS.append("opened")', 'raise OSError("no database")'))
    with pytest.raises(OSError, match="no database"):
        await run_worker(WorkerConfig(str(app), redis_url, namespace=namespace))


def test_two_lifespans_are_one_too_many(tmp_path: Path) -> None:
    app = tmp_path / "app_of_two.py"
    app.write_text(APP + APP.replace("resources", "others"))
    with pytest.raises(DefinitionError, match=r"several lifespans \(resources, others\)"):
        load_app(str(app))


def test_what_is_none() -> None:
    with pytest.raises(DefinitionError, match="an async generator function that yields once"):
        orbit.lifespan(nothing)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"takes an async def with \(call, proceed\)"):
        orbit.middleware(nothing)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"takes an async def with \(call, proceed\)"):
        orbit.middleware(lambda call, proceed: None)  # type: ignore[arg-type, return-value]


class Everything(Probed, stays_open=True):
    async def run(self) -> None:
        await self.transaction.step("one", nothing)
        await self.transaction.each("loop", [1], self.body)

    async def body(self, item: int) -> None: ...

    def on_new_connection(self, connection: Connection) -> None: ...

    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.set_timer("soon", 0)

    async def on_timer(self, name: str) -> None:
        raise ValueError("on purpose")


@orbit.middleware
async def outer(call: orbit.Call, proceed: Any) -> Any:
    Probed.probe.seen.append((call.hook, call.name, call.attempt))
    assert call.state == "Everything"
    try:
        return await proceed()
    except ValueError as error:
        Probed.probe.errors.append(error)
        raise


@orbit.middleware
async def inner(call: orbit.Call, proceed: Any) -> Any:
    assert Probed.probe.seen[-1][0] == call.hook, "the first is the outermost"
    return await proceed()


async def test_around_each_piece_of_code(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Everything)
    ann = await house.attach(tx, "ann")
    await house.send(tx, 1, ann)
    await fleet.worker(Everything, middleware=(outer, inner))
    await until(house.store, tx, lambda found: found.status == "idle" and bool(probe.errors))
    assert sorted(probe.seen) == sorted(
        [
            ("run", "", 1), ("step", "one", 1), ("each", "loop", 1), ("on_new_connection", "", 1),
            ("on_update", "", 1), ("on_timer", "soon", 1),
        ]
    )  # fmt: skip
    assert len(probe.errors) == 1


@orbit.middleware
async def refusing(call: orbit.Call, proceed: Any) -> Any:
    raise PermissionError("not here")


async def test_an_exception_of_its_own_is_the_code_s(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Everything)
    ann = await house.attach(tx, "ann")
    await house.send(tx, 1, ann)
    await fleet.worker(Everything, middleware=(refusing,))
    await until(house.store, tx, lambda found: found.attempts > 0)
    while not await house.refusals(tx):
        await house.store.ping()
    assert await house.refusals(tx) == [("ann", 1, "state_error")]


async def resources() -> AsyncIterator[int]:
    yield 1


def test_it_can_be_made_of_a_function_that_stands_elsewhere() -> None:
    assert orbit.lifespan(resources).name == "resources"
