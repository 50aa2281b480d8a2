"""Whether an edge is of use: what the probe finds out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgpack
import pytest

from orbit.edge.config import EdgeConfig, Pulse
from orbit.edge.edge import Edge
from orbit.edge.health import Health
from orbit.edge.metrics import Metrics
from orbit.errors import Unavailable


class Redis:
    """Delivers probes, or doesn't; counts who listens."""

    def __init__(self) -> None:
        self.connected = True
        self.deaf = False
        self.away = False
        self.alive = True
        self.runs: asyncio.Queue[int] = asyncio.Queue()
        self.health: Health | None = None
        self._count = 0

    async def run(self) -> None:
        self._count += 1
        self.runs.put_nowait(self._count)
        await asyncio.Event().wait()

    async def tell_edge(self, edge: str, payload: bytes) -> None:
        if self.away:
            raise Unavailable("away")
        if not self.deaf and self.health is not None:
            self.health.heard(msgpack.unpackb(payload)["n"])

    async def beat_edge(self, edge: str, ttl_s: float) -> bool:
        if self.away:
            raise Unavailable("away")
        return self.alive

    async def sweep_edges(self) -> int:
        raise Unavailable("away")


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.redis = Redis()
        self.now = 1000.0
        self.rechecks = 0
        edge = SimpleNamespace(
            id="e", config=EdgeConfig("", pulse=Pulse(deaf_s=5.0, retry_s=0.0)), metrics=Metrics(), store=self.redis,
            hub=SimpleNamespace(subscriber=self.redis), recheck=self.recheck,
        )  # fmt: skip
        self.health = self.redis.health = Health(cast(Edge, edge))
        monkeypatch.setattr(Health, "_now", lambda _: self.now)

    def recheck(self) -> None:
        self.rechecks += 1


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    bench = Bench(monkeypatch)
    listening = asyncio.create_task(bench.health.listen())
    assert await bench.redis.runs.get() == 1
    yield bench
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_ready_once_a_probe_came_back(bench: Bench) -> None:
    assert not bench.health.delivers
    ready = asyncio.ensure_future(bench.health.until_delivering())
    await bench.health.probe()
    await ready
    assert bench.health.delivers


async def test_red_without_a_connection(bench: Bench) -> None:
    await bench.health.probe()
    bench.redis.connected = False
    assert not bench.health.delivers


async def test_red_while_redis_does_not_answer(bench: Bench) -> None:
    await bench.health.probe()
    bench.redis.away = True
    bench.now += 5.0
    await bench.health.probe()
    assert not bench.health.delivers


async def test_deaf_is_red_and_made_anew(bench: Bench) -> None:
    await bench.health.probe()
    bench.redis.deaf = True
    bench.now += 5.0
    await bench.health.probe()
    assert not bench.health.delivers
    assert bench.redis.runs.empty()
    bench.now += 0.1
    await bench.health.probe()
    assert await bench.redis.runs.get() == 2
    bench.now += 2.0
    await bench.health.probe()
    assert bench.redis.runs.empty()
    bench.redis.deaf = False
    await bench.health.probe()
    assert bench.health.delivers


async def test_an_old_probe_says_nothing(bench: Bench) -> None:
    await bench.health.probe()
    bench.now += 5.0
    bench.health.heard(1)
    assert not bench.health.delivers


async def test_who_was_taken_for_dead_looks_at_its_sessions(bench: Bench) -> None:
    bench.redis.alive = False
    await bench.health.beat()
    assert bench.rechecks == 0
    bench.redis.alive = True
    await bench.health.beat()
    assert bench.rechecks == 0
    bench.redis.alive = False
    await bench.health.beat()
    assert bench.rechecks == 1


async def test_redis_away_ends_no_timer(bench: Bench) -> None:
    bench.redis.away = True
    await bench.health.beat()
    await bench.health.sweep()
    await bench.health.probe()
