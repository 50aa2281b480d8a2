"""A real connection, cut after the write: the reply is lost, the write is done. Each counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orbit import Connection
from orbit.errors import OutcomeUnknown
from orbit.protocol.values import pack
from orbit.store import script
from orbit.store import types as t
from orbit.store.store import Store
from orbit.verify.proxy import Proxy
from orbit.worker.claims import Claimer
from orbit.worker.discover import spec_of
from orbit.worker.surroundings import Leaving
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.before(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: Proxy, store: Store) -> AsyncIterator[Store]:
    """The store as seen through the proxy."""
    behind = await Store.open(proxy.url, store.settings)
    yield behind
    await behind.close()


class Numbers(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> int:
        Probed.probe.seen.append("run")
        while self.n < 6:
            self.n += 1
            await self.transaction.send_update(f"number-{self.n}")
        return self.n


class Answering(Probed):
    n: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.n += 1
        await self.transaction.send_update([self.n, data])


async def warm(house: House) -> None:
    """Have the server know the scripts, so that the request that is cut is the one that does it."""
    _, stay = await house.run(Numbers)
    await stay.leaving()
    Probed.probe.seen.clear()


async def test_a_commit_whose_reply_is_lost_is_done_once_and_run_goes_on(
    house: House, behind: Store, proxy: Proxy, probe: Probe
) -> None:
    await warm(house)
    tx = await house.start(Numbers)
    cut = proxy.cut_after(b"number-3")
    tap = Tap(behind)
    stay = await house.claim(Numbers, tx, tap)
    assert await stay.leaving() is Leaving.ENDED
    await cut.done.wait()
    assert await house.updates(tx) == [f"number-{n}" for n in range(1, 7)]
    assert probe.seen == ["run"], "run began again, though its lease was never lost"
    third = [commit for commit in tap.commits if commit.entries and b"number-3" in commit.entries[0].data]  # type: ignore[union-attr]
    assert len(third) == 2
    assert third[0] == third[1]
    assert house.metrics.commits["repeated"]._value.get() == 1


async def test_an_end_whose_reply_is_lost_is_done_once(
    house: House, behind: Store, proxy: Proxy, probe: Probe
) -> None:
    await warm(house)
    tx = await house.start(Numbers, '{"n": 6}')
    cut = proxy.cut_after(b"finished")
    assert await (await house.claim(Numbers, tx, Tap(behind))).leaving() is Leaving.ENDED
    await cut.done.wait()
    assert await house.end(tx) == ("finished", 6)


async def test_a_claim_whose_reply_is_lost_is_granted_once(
    house: House, behind: Store, proxy: Proxy, probe: Probe
) -> None:
    await warm(house)
    tx = await house.start(Numbers)
    partition, spec = house.store.partition_of(tx), spec_of(Numbers)
    before = await house.store.claim(partition, "nobody", [t.Spec("none", "none", 1)], 1, 1000, "warm")
    assert before == ()
    cut = proxy.cut_after(script.CLAIM.sha.encode())
    granted: asyncio.Queue[t.Grant] = asyncio.Queue()
    claimer = Claimer(
        behind, "tester", [spec], 10.0, lambda: 4, lambda grant, _: granted.put_nowait(grant), lambda: None
    )
    claimer.want(partition)
    grant = await granted.get()
    await cut.done.wait()
    await claimer.close()
    assert granted.empty()
    found = await house.store.get(tx)
    assert found is not None
    assert (found.epoch, found.crashes, found.status) == (grant.epoch, 0, "running")


async def test_an_append_whose_reply_is_lost_is_stored_once_and_handled_once(
    house: House, behind: Store, proxy: Proxy, probe: Probe
) -> None:
    await warm(house)
    tx = await house.start(Answering)
    me = await house.attach(tx, "me")
    await house.send(tx, "first", me)
    cut = proxy.cut_after(b"second")
    message = t.NewMessage(pack("second"), me, 2)
    with pytest.raises(OutcomeUnknown):
        await behind.append(tx, message)
    await cut.done.wait()
    assert await behind.append(tx, message) == t.Stored(duplicate=True, last_mid=2)
    await (await house.claim(Answering, tx)).idle()
    assert await house.updates(tx) == [[1, "first"], [2, "second"]]


async def test_a_message_that_redis_lost_while_its_handler_ran_is_not_answered_and_run_goes_on(
    house: House, store: Store, probe: Probe
) -> None:
    tx = await house.start(Answering)
    tap = Tap(store)

    async def lose(_: t.Commit) -> None:
        if not tap.commits:
            await store.link.write("DEL", store.keys.transaction(tx) + ":inbox")

    tap.before_commit = lose
    await house.send(tx, "lost")
    stay = await house.claim(Answering, tx, tap)
    assert await stay.leaving() is Leaving.HANDED_OVER
    await stay.release()
    await house.send(tx, "kept")
    again = await house.claim(Answering, tx)
    await again.idle()
    assert await house.updates(tx) == [[1, "kept"]]
    found = await house.store.get(tx)
    assert found is not None
    assert found.crashes == 0
