"""A full server (maxmemory): what writes is refused whole, as a script's first write is one that needs memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from orbit.errors import Overloaded
from orbit.store import types as t
from tests.contract.conftest import SINGLE, real_server
from tests.contract.house import ANN, BOB, LEASE_MS, SPEC, House, place

Scene = tuple[House, t.Grant, t.Grant, t.Grant]
Verb = Callable[[House, t.Grant, t.Grant, t.Grant], Awaitable[object]]


@pytest.fixture(params=SINGLE)
def server(request: pytest.FixtureRequest) -> object:
    """fakeredis is never full; a cluster's node is full as any server."""
    return real_server(request)


@pytest.fixture
async def scene(house: House) -> AsyncIterator[Scene]:
    """One that runs, one that is idle, one that never ran; and no memory left."""
    running, idle = await house.run(), await house.run()
    await house.send(running.tx, 1)
    for grant in (running, idle):
        await house.attach(grant.tx)
        await house.commit(grant, told=((ANN, str(place())),))
    await house.store.release(idle.tx, idle.epoch, 1, None, idle=True)
    fresh = await house.begin()
    await house.redis.config_set("maxmemory", "1")
    yield house, running, idle, t.Grant(fresh, running.epoch, 0, SPEC, False)
    await house.redis.config_set("maxmemory", "0")


def _held(house: House, grant: t.Grant) -> tuple[int, str, list[t.Held], int]:
    return house.store.partition_of(grant.tx), "w1", [t.Held(grant.tx, grant.epoch, 1)], LEASE_MS


VERBS: dict[str, Verb] = {
    "start": lambda house, running, idle, fresh: house.store.start(house.new()),
    "attach": lambda house, running, idle, fresh: house.store.attach(idle.tx, BOB, place(), None),
    "detach, told": lambda house, running, idle, fresh: house.store.detach(idle.tx, ANN, place()),
    "append": lambda house, running, idle, fresh: house.store.append(idle.tx, t.NewMessage(b"data", BOB, 1)),
    "claim": lambda house, running, idle, fresh: house.claim(fresh.tx, "w2"),
    "renew": lambda house, running, idle, fresh: house.store.renew(*_held(house, running)),
    "commit": lambda house, running, idle, fresh: house.commit(running, 1, entries=(t.NewUpdate(b"u"),)),
    "commit, empty": lambda house, running, idle, fresh: house.commit(running, 1),
    "commit, end": lambda house, running, idle, fresh: house.commit(running, 1, end=t.NewEnd("finished")),
    "release": lambda house, running, idle, fresh: house.store.release(running.tx, running.epoch, 1, None, idle=False),
    "cancel, running": lambda house, running, idle, fresh: house.store.cancel(running.tx, "why"),
    "cancel, fresh": lambda house, running, idle, fresh: house.store.cancel(fresh.tx, "why"),
    "publish": lambda house, running, idle, fresh: house.store.publish_states(
        [t.StateRecord("Demo", 1, "default", "{}", True, 1, 1.0)]
    ),
    "beat": lambda house, running, idle, fresh: house.store.beat_edge("e1", 1.0),
}


@pytest.mark.parametrize("verb", sorted(VERBS))
async def test_what_needs_memory_is_refused_whole(scene: Scene, verb: str) -> None:
    house = scene[0]
    before = await house.keyspace()
    with pytest.raises(Overloaded) as caught:
        await VERBS[verb](*scene)
    assert caught.value.retry_after_ms
    assert await house.keyspace() == before
    await house.redis.config_set("maxmemory", "0")
    await VERBS[verb](*scene)
    assert await house.keyspace() != before, "with memory it is done"


async def test_what_frees_memory_is_done(scene: Scene) -> None:
    house, running, _, _ = scene
    assert isinstance(await house.work(running.tx), t.Work)
    assert await house.store.append(running.tx, replace(t.NewMessage(b"data", ANN, 1))) == t.Stored(True, 1)
    assert (await house.due(running.tx)).done == 0
    assert not await house.store.remove(running.tx)
