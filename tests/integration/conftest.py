from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from tests.integration.edge_bench import Hand, RunningEdge
from tests.integration.fleet import Fleet
from tests.integration.house import House
from tests.integration.probes import Probe, Probed


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server for all tests, each in a namespace of its own."""
    given = os.environ.get("ORBIT_TEST_REDIS_URL")
    if given:
        yield given
        return
    with EmbeddedServer() as server:
        yield server.url


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    store = await Store.open(redis_url, StoreSettings(namespace=namespace, partitions=4, grace_s=0.05))
    yield store
    await store.close()


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    house = House(store)
    yield house
    await house.close()


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    Probed.probe = Probe()
    yield Probed.probe
    Probed.probe.hold.set()


@pytest.fixture
async def edge(redis_url: str, namespace: str, store: Store) -> AsyncIterator[RunningEdge]:
    edge = await RunningEdge(redis_url, namespace).start()
    yield edge
    await edge.close()


@pytest.fixture
async def other_edge(redis_url: str, namespace: str, store: Store) -> AsyncIterator[RunningEdge]:
    edge = await RunningEdge(redis_url, namespace).start()
    yield edge
    await edge.close()


@pytest.fixture
async def hand(store: Store) -> Hand:
    return await Hand.start(store)


@pytest.fixture
async def fleet(redis_url: str, store: Store) -> AsyncIterator[Fleet]:
    fleet = Fleet(redis_url, store)
    yield fleet
    await fleet.close()
