"""One suite for every server: fakeredis, the embedded Valkey, and the one at ORBIT_TEST_REDIS_URL where that is set."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection, FakeRedis
from redis.asyncio import Redis

from orbit.store import script
from orbit.store.address import Connect, connector
from orbit.store.checks import Deployment
from orbit.store.embedded import EmbeddedServer
from orbit.store.link import Link
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from tests.contract.branches import Taken, traced_scripts
from tests.contract.house import House

URL = os.environ.get("ORBIT_TEST_REDIS_URL")
SERVERS = ["fakeredis", "valkey", *([pytest.param("url", marks=pytest.mark.debian)] if URL else [])]
TIMEOUT_S = 10.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "covers(script, *branches): branches of a script that the test goes through")


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(config={"appendonly": "no"}) as server:
        yield server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> tuple[Connect, Redis]:
    """How to connect, and a client of the tests' own."""
    if request.param == "fakeredis":
        fake = FakeServer(server_type="redis", version=(7,))
        return lambda: FakeAsyncRedisConnection(server=fake, protocol=2), FakeRedis(server=fake, protocol=2)
    return real_server(request)


def real_server(request: pytest.FixtureRequest) -> tuple[Connect, Redis]:
    """As `server`, where fakeredis won't do."""
    url = request.getfixturevalue("valkey").url if request.param == "valkey" else URL
    assert url is not None
    return connector(url, TIMEOUT_S), Redis.from_url(url, protocol=2)


@pytest.fixture
def settings() -> StoreSettings:
    return StoreSettings(namespace=f"test-{uuid.uuid4().hex}", timeout_s=TIMEOUT_S, grace_s=60.0)


@pytest.fixture
async def house(
    request: pytest.FixtureRequest,
    server: tuple[Connect, Redis],
    settings: StoreSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    """A deployment of its own. The test must go through the branches that it says it covers."""
    for constant, traced in traced_scripts().items():
        monkeypatch.setattr(script, constant, traced)
    connect, redis = server
    store = Store(Link(connect, TIMEOUT_S), settings, Deployment(partitions=2, secret=b"s" * 32))
    taken = Taken(redis)
    await taken.listen()
    yield House(store, redis)
    missed = covered(request.node) - await taken.all()
    await store.close()
    await redis.aclose()
    assert not missed, f"the test says that it covers {missed}"


def covered(test: pytest.Item) -> set[str]:
    return {f"{mark.args[0]}: {branch}" for mark in test.iter_markers("covers") for branch in mark.args[1:]}
