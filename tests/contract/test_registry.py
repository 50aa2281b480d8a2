"""What runs here: States, workers, edges, the deployment itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orbit.store import script
from orbit.store import types as t
from tests.contract.house import SPEC, Heard, House

covers = pytest.mark.covers
DEMO = t.StateRecord("Demo", 1, "default", '{"type":"object"}', True, 100, 60.0)


@covers("publish", "recorded")
async def test_states_are_published_by_name(house: House) -> None:
    other = t.StateRecord("Another", 3, "gpu", "{}", False, 10, 1.5)
    await house.store.publish_states([DEMO, other])
    assert await house.store.states() == (other, DEMO)


@covers("publish", "newer known")
async def test_an_older_version_takes_nothing_back(house: House) -> None:
    newer = t.StateRecord("Demo", 10, "default", "{}", True, 100, 60.0)
    await house.store.publish_states([newer])
    await house.refused(house.store.publish_states([DEMO]))
    assert await house.store.states() == (newer,)
    same = t.StateRecord("Demo", 10, "gpu", "{}", True, 100, 60.0)
    await house.store.publish_states([same])
    assert await house.store.states() == (same,)


@covers("beat", "alive", "new or late")
@covers("alive", "all")
async def test_live_workers_are_known_with_what_they_run(house: House) -> None:
    await house.store.publish_states([DEMO])
    one, two = t.WorkerRecord("w1", (SPEC, t.Spec("default", "Demo", 2)), 5), t.WorkerRecord("w2", (), 0)
    await house.store.beat_worker(two, 60)
    await house.store.beat_worker(one, 60)
    await house.store.beat_worker(one, 60)
    assert await house.store.workers() == (one, two)
    assert (await house.store.states())[0].live == 1


async def test_a_silent_worker_is_no_more_listed(house: House) -> None:
    await house.store.beat_worker(t.WorkerRecord("w1", (SPEC,), 5), 0)
    assert await house.store.workers() == ()
    assert await house.redis.hlen(house.store.keys.workers) == 1
    await house.redis.hset(house.store.keys.workers, "w1", b"1 {}")
    assert await house.store.workers() == ()
    assert await house.redis.hlen(house.store.keys.workers) == 0


@covers("forget", "forgotten", "kept")
async def test_a_worker_that_leaves_is_forgotten(house: House) -> None:
    await house.store.beat_worker(t.WorkerRecord("w1", (SPEC,), 5), 60)
    await house.store.forget_worker("w1")
    assert await house.store.workers() == ()
    await house.refused(house.store.forget_worker("w1"))


async def test_an_edge_that_beats_in_time_is_known(house: House) -> None:
    assert await house.store.beat_edge("e1", 60) is False
    assert await house.store.beat_edge("e1", 0) is True
    assert await house.store.beat_edge("e1", 60) is False, "it was late"
    await house.store.forget_edge("e1")
    assert await house.store.beat_edge("e1", 60) is False


async def test_an_edge_is_told_on_its_own_channel(house: House) -> None:
    heard = await Heard.of(house)
    await house.store.tell_edge("e1", b"\x00\xff")
    await house.store.tell_edge("e2", b"for another")
    assert await heard.since() == [b"\x00\xff"]
    await heard.close()


@covers("deployment", "recorded")
async def test_a_deployment_is_recorded_at_its_first_use(house: House) -> None:
    link, keys = house.store.link, house.store.keys
    recorded = [b"4", b"secret", b"1", b"fsync"]
    assert await link.run(script.DEPLOYMENT, (keys.deployment,), 4, b"secret", "1", "fsync") == recorded
    assert await link.run(script.DEPLOYMENT, (keys.deployment,), 8, b"other", "2", "memory") == recorded


@covers("probe", "allowed")
async def test_the_probe_leaves_nothing(house: House) -> None:
    assert await house.refused(house.store.link.run(script.PROBE, (house.store.keys.probe(0),))) == 1


async def test_ping(house: House) -> None:
    await house.store.ping()


@pytest.fixture
async def may_scan(request: pytest.FixtureRequest, house: House) -> AsyncIterator[None]:
    """Whoever erases a deployment looks through the keys of a server: more than Orbit's user otherwise may."""
    limited = request.node.callspec.params["server"] == "valkey"
    if limited:
        await house.redis.execute_command("ACL", "SETUSER", "orbit", "+scan")
    yield
    if limited:
        await house.redis.execute_command("ACL", "SETUSER", "orbit", "-scan")


@pytest.mark.usefixtures("may_scan")
async def test_a_deployment_is_erased_whole_and_no_other(house: House) -> None:
    """Its neighbour's name begins as its own does, and lies on the same servers."""
    neighbour = f"{house.store.keys.namespace}2:{{x}}:p"
    await house.redis.set(neighbour, "1")
    for _ in range(20):
        await house.begin()
    await house.store.publish_states([DEMO])
    assert await house.store.erase() > 20
    assert await house.keyspace() == {}
    assert await house.redis.get(neighbour) == b"1"
    assert await house.store.erase() == 0
    await house.redis.delete(neighbour)
