"""One suite for every server: fakeredis, the embedded Valkey, a cluster of it, and the one at ORBIT_TEST_REDIS_URL."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection, FakeRedis
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster

from orbit.store import script
from orbit.store.address import Connect, connector, parse
from orbit.store.checks import Deployment
from orbit.store.embedded import EmbeddedCluster, EmbeddedServer
from orbit.store.link import Link
from orbit.store.store import Store
from orbit.store.topology import Topology, topology_at
from orbit.store.types import StoreSettings
from tests.contract.branches import CHANNEL, Taken, traced_scripts
from tests.contract.house import House
from tests.support.acl import PASSWORD, orbit_rules

URL = os.environ.get("ORBIT_TEST_REDIS_URL")
SINGLE = ["valkey", *([pytest.param("url", marks=pytest.mark.debian)] if URL else [])]
SERVERS = ["fakeredis", *SINGLE, "cluster"]
TIMEOUT_S = 10.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "covers(script, *branches): branches of a script that the test goes through")


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    """Orbit's user may do there what deploy/redis/users.acl says, and tell of the branches taken."""
    with EmbeddedServer(config={"appendonly": "no"}) as server:
        rules = [*orbit_rules("test-*"), "+publish", f"&{CHANNEL}"]
        asyncio.run(server.command("ACL", "SETUSER", "orbit", *rules))
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedCluster]:
    made = EmbeddedCluster(replicas=0, node_timeout_ms=15_000, config={"appendonly": "no"})
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> tuple[Connect | Topology, Any]:
    """How to connect, and a client of the tests' own."""
    if request.param == "fakeredis":
        fake = FakeServer(server_type="redis", version=(7,))
        return lambda: FakeAsyncRedisConnection(server=fake, protocol=2), FakeRedis(server=fake, protocol=2)
    return real_server(request)


def real_server(request: pytest.FixtureRequest) -> tuple[Connect | Topology, Any]:
    """As `server`, where fakeredis won't do."""
    if request.param == "cluster":
        address = parse(request.getfixturevalue("cluster").url)
        nodes = [ClusterNode(*host) for host in address.hosts]
        return topology_at(address, TIMEOUT_S), RedisCluster(startup_nodes=nodes, protocol=2)
    if request.param == "valkey":
        url = request.getfixturevalue("valkey").url
        return connector(url.replace("://", f"://orbit:{PASSWORD}@"), TIMEOUT_S), Redis.from_url(url, protocol=2)
    assert URL is not None
    return connector(URL, TIMEOUT_S), Redis.from_url(URL, protocol=2)


@pytest.fixture
def settings() -> StoreSettings:
    return StoreSettings(namespace=f"test-{uuid.uuid4().hex}", timeout_s=TIMEOUT_S, grace_s=60.0)


@pytest.fixture
async def house(
    request: pytest.FixtureRequest,
    server: tuple[Connect | Topology, Any],
    settings: StoreSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    """A deployment of its own. The test must go through the branches that it says it covers."""
    for constant, traced in traced_scripts().items():
        monkeypatch.setattr(script, constant, traced)
    to, redis = server
    store = Store(Link(to, TIMEOUT_S), settings, Deployment(partitions=2, secret=b"s" * 32))
    taken = Taken(redis)
    await taken.listen()
    yield House(store, redis)
    missed = covered(request.node) - await taken.all()
    await store.close()
    await redis.aclose()
    assert not missed, f"the test says that it covers {missed}"


def covered(test: pytest.Item) -> set[str]:
    return {f"{mark.args[0]}: {branch}" for mark in test.iter_markers("covers") for branch in mark.args[1:]}
