from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from orbit.client import Broker
from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from tests.unit.client.job import Job


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server for all tests, each in a namespace of its own."""
    with EmbeddedServer() as server:
        yield server.url


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    settings = StoreSettings(namespace=f"test-{secrets.token_hex(4)}", partitions=2, inbox_messages=3)
    store = await Store.open(redis_url, settings)
    yield store
    await store.close()


@pytest.fixture
async def broker(store: Store) -> AsyncIterator[Broker]:
    async with Broker(store) as broker:
        yield broker


@pytest.fixture
async def job(store: Store, broker: Broker) -> Job:
    """A running transaction, whose turns the test commits."""
    return await Job.started(store, broker)
