"""Finding a cluster: through any of its nodes, once it is whole."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from orbit.errors import OutcomeUnknown, StoreUnusable, Unavailable
from orbit.store.embedded import EmbeddedCluster, EmbeddedServer
from orbit.store.embedded.server import free_port
from orbit.store.keys import slot_of_key
from orbit.store.store import Store
from orbit.store.types import StoreSettings


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    made = EmbeddedCluster(primaries=2, replicas=0, node_timeout_ms=30_000, config={"appendonly": "no"})
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_one_node_that_is_there_is_enough(cluster: EmbeddedCluster, settings: StoreSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seeds = (free_port(), silent.getsockname()[1], cluster.servers[1].port)
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in seeds)
        store = await Store.open(url, settings)
    assert len(store.probe_partitions()) == 2, "both nodes are known"
    await store.ping()
    await store.close()


async def test_each_node_is_spoken_to_over_its_own_connections(
    cluster: EmbeddedCluster, settings: StoreSettings
) -> None:
    store = await Store.open(cluster.url, settings)
    for partition in range(store.partitions):
        key = store.keys.partition(partition)
        await store.link.write("SET", key, str(partition))
        holder = await cluster.primary_of(slot_of_key(key))
        assert await holder.command("GET", key) == str(partition).encode()
    await store.close()


async def test_a_server_that_isn_t_part_of_one(server: EmbeddedServer, settings: StoreSettings) -> None:
    async with EmbeddedServer(tcp=True) as alone:
        with pytest.raises(StoreUnusable, match=rf"give its address as redis://127\.0\.0\.1:{alone.port}"):
            await Store.open(f"redis+cluster://127.0.0.1:{alone.port}", settings)


async def test_a_wrong_password(cluster: EmbeddedCluster, settings: StoreSettings) -> None:
    url = f"redis+cluster://user:wrong-password@127.0.0.1:{free_port()},127.0.0.1:{cluster.servers[0].port}"
    with pytest.raises(StoreUnusable) as caught:
        await Store.open(url, settings)
    assert "wrong-password" not in str(caught.value)


async def test_nobody_there(settings: StoreSettings) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="no Redis at redis"):
        await Store.open(url, settings)


async def test_who_waits_for_it_is_told_and_comes_in_when_it_is_whole(settings: StoreSettings) -> None:
    """Its nodes answer before they are one."""
    cluster = EmbeddedCluster(primaries=2, replicas=0, config={"appendonly": "no"})
    said: asyncio.Queue[str] = asyncio.Queue()
    opening: list[asyncio.Task[Store]] = []
    meet = cluster._share_slots

    async def open_meanwhile() -> None:
        opening.append(asyncio.ensure_future(Store.open(cluster.url, settings, wait=True, say=said.put_nowait)))
        assert "the cluster isn't whole" in await said.get()
        await meet()

    cluster._share_slots = open_meanwhile  # type: ignore[method-assign]
    async with cluster:
        store = await opening[0]
        assert said.empty()
        await store.close()


async def test_a_node_that_is_away_takes_only_its_own_with_it(
    cluster: EmbeddedCluster, settings: StoreSettings
) -> None:
    store = await Store.open(cluster.url, StoreSettings(settings.namespace, partitions=8, timeout_s=3.0))
    by_it = [slot_of_key(store.keys.partition(partition)) < 8192 for partition in range(8)]

    async def written(partition: int) -> bool:
        try:
            await store.link.write("SET", store.keys.partition(partition), "1")
        except (OutcomeUnknown, Unavailable):
            return False
        return True

    away = cluster.servers[0]
    away.pause()
    try:
        outcomes = await asyncio.gather(*map(written, range(8)))
        assert outcomes == [not held for held in by_it]
        assert all([await written(partition) for partition in range(8) if not by_it[partition]]), "nor afterwards"
    finally:
        away.resume()
    await store.close()
