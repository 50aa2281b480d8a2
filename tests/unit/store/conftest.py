from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(config={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def settings() -> StoreSettings:
    return StoreSettings(namespace=f"test-{uuid.uuid4().hex}", partitions=4)


@pytest.fixture
async def store(server: EmbeddedServer, settings: StoreSettings) -> AsyncIterator[Store]:
    store = await Store.open(server.url, settings)
    yield store
    await store.close()
