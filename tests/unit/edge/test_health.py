"""What an edge says of itself, and what it does when that came too late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from orbit.edge.config import EdgeConfig, Pulse
from orbit.edge.edge import Edge
from orbit.edge.health import Health
from orbit.errors import Unavailable


class Bench:
    """An edge whose Redis says what the test wants."""

    def __init__(self) -> None:
        self.away = False
        self.alive = True
        self.rechecks = 0
        edge = SimpleNamespace(id="e", config=EdgeConfig("", pulse=Pulse()), store=self, recheck=self.recheck)
        self.health = Health(cast(Edge, edge))

    async def beat_edge(self, edge: str, ttl_s: float) -> bool:
        if self.away:
            raise Unavailable("away")
        return self.alive

    async def sweep_edges(self) -> int:
        raise Unavailable("away")

    def recheck(self) -> None:
        self.rechecks += 1


async def test_who_was_taken_for_dead_looks_at_its_sessions() -> None:
    bench = Bench()
    bench.alive = False
    await bench.health.beat()
    assert bench.rechecks == 0
    bench.alive = True
    await bench.health.beat()
    assert bench.rechecks == 0
    bench.alive = False
    await bench.health.beat()
    assert bench.rechecks == 1


async def test_redis_away_ends_no_timer() -> None:
    bench = Bench()
    bench.away = True
    await bench.health.beat()
    await bench.health.sweep()
