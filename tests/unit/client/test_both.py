"""`Broker` and `Client` have the same verbs: one suite, over Redis and through a real edge in both codecs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from orbit.client import Broker, Client, End, Update
from orbit.errors import BadRequest, Conflict, Ended, NotFound, TooLarge, TransactionFailed
from orbit.protocol.codecs import CODECS
from orbit.protocol.entries import Failure
from orbit.store.store import Store
from orbit.store.types import Work
from tests.unit.client.job import RECORD, Job
from tests.unit.client.real import PATIENCE_S, running_edge

NOBODY = "nobody-0123456789"
Way = Broker | Client


@pytest.fixture(params=["broker", *CODECS])
async def way(request: pytest.FixtureRequest, store: Store, redis_url: str) -> AsyncIterator[Way]:
    await store.publish_states([RECORD])
    if request.param == "broker":
        async with Broker(redis_url, namespace=store.settings.namespace) as broker:
            yield broker
        return
    codec = CODECS[request.param]
    async with running_edge(redis_url, store.settings.namespace) as url, Client(url, codec=codec) as client:
        yield client


async def test_starts(way: Way) -> None:
    for state, fields, reason in (
        ("Nope", {}, "unknown State 'Nope'; known: Count"),
        ("Count", {}, "total: is missing"),
        ("Count", {"total": "x"}, "total: the value is not of type"),
        ("Count", {"total": 2**63}, "past signed 64 bits"),
    ):
        with pytest.raises(BadRequest, match=reason):
            await way.start(state, fields)
    tx = await way.start("Count", {"total": 1, "blob": b"\xff"}, id="a" * 16)
    assert tx == await way.start("Count", {"total": 1, "blob": b"\xff"}, id="a" * 16) == "a" * 16
    with pytest.raises(Conflict):
        await way.start("Count", {"total": 2}, id="a" * 16)
    keyed = await way.start("Count", {"total": 1}, idempotency_key="k")
    assert keyed == await way.start("Count", {"total": 1}, idempotency_key="k")
    assert {info.id for info in (await way.list()).transactions} == {tx, keyed}
    assert [state.name for state in await way.states()] == ["Count"]


async def test_unknown_ids(way: Way) -> None:
    for asked in (way.get(NOBODY), way.result(NOBODY), way.cancel(NOBODY), way.retry(NOBODY), way.send(NOBODY, 1)):
        with pytest.raises(NotFound):
            await asked
    with pytest.raises(NotFound):
        await anext(way.updates(NOBODY))
    for after in ("7", "1-2"):
        with pytest.raises(BadRequest):
            await anext(way.updates(NOBODY, after=after))


async def test_a_whole_life(way: Way, store: Store) -> None:
    tx = await way.start("Count", {"total": 3})
    job = await Job.claimed(store, tx)
    value = {"$a": [b"\x00\xff", {"$bytes": 1}], "n": 2**63 - 1, "ü": None, "f": 0.5}
    async with aclosing(way.updates(tx)) as updates, asyncio.timeout(PATIENCE_S):
        await job.update(1, value)
        assert [(await anext(updates)).data for _ in range(2)] == [1, value]
        await job.update("for one", session="s" * 16)
        await job.update(None)
        seen = await anext(updates)
        assert seen.data is None
        await way.send(tx, value)
        work = await store.read_work(job.tx, None, 10)
        assert isinstance(work, Work)
        with pytest.raises(TimeoutError):
            await way.result(tx, wait_s=0)
        waits = asyncio.create_task(way.result(tx))
        await job.commit(consumed=tuple(message.id for message in work.incoming))
        await job.end(result=value)
        assert await waits == value
        with pytest.raises(StopAsyncIteration):
            await anext(updates)
    assert [update.data async for update in way.updates(tx, after=seen.cursor)] == []
    events = [event async for event in way.events(tx, after=seen.cursor)]
    assert [event.result for event in events if isinstance(event, End)] == [value]
    assert sum(isinstance(event, Update) for event in events) == 0
    info = await way.get(tx)
    assert (info.status, info.result, info.error) == ("finished", value, None)
    for verb in (way.send(tx, 1), way.cancel(tx)):
        with pytest.raises(Ended):
            await verb


async def test_a_failure(way: Way, store: Store) -> None:
    tx = await way.start("Count", {"total": 3})
    job = await Job.claimed(store, tx)
    await job.end("failed", error=Failure("ValueError", "it broke"))
    with pytest.raises(TransactionFailed, match="it broke") as raised:
        await way.result(tx)
    assert (raised.value.status, raised.value.type) == ("failed", "ValueError")
    info = await way.get(tx)
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("ValueError", "it broke")


async def test_a_retry(way: Way, store: Store) -> None:
    tx = await way.start("Count", {"total": 3})
    with pytest.raises(Conflict, match="is pending, not failed"):
        await way.retry(tx)
    job = await Job.claimed(store, tx)
    await job.update(1)
    await job.end("failed", error=Failure("ValueError", "it broke"))
    events = [event async for event in way.events(tx) if isinstance(event, Update | End)]
    assert [type(event) for event in events] == [Update, End]
    assert await way.retry(tx) == "pending"
    info = await way.get(tx)
    assert (info.status, info.error, info.ended_at) == ("pending", None, None)
    async with aclosing(way.updates(tx, after=events[-1].cursor)) as updates, asyncio.timeout(PATIENCE_S):
        job = await Job.claimed(store, tx, 2)
        await job.update(2)
        assert (await anext(updates)).data == 2
        await job.end(result="done")
        assert await way.result(tx) == "done"
        with pytest.raises(StopAsyncIteration):
            await anext(updates)
    whole = [event async for event in way.events(tx) if isinstance(event, Update | End)]
    assert [type(event) for event in whole] == [Update, Update, End], "nobody is told of the end that was undone"


async def test_a_cancel(way: Way) -> None:
    tx = await way.start("Count", {"total": 3})
    await way.cancel(tx, "no more")
    with pytest.raises(TransactionFailed) as raised:
        await way.result(tx)
    assert raised.value.status == "cancelled"


async def test_limits(way: Way, store: Store) -> None:
    tx = await way.start("Count", {"total": 3})
    with pytest.raises(TooLarge):
        await way.send(tx, b"x" * 2**20)
    with pytest.raises(BadRequest):
        await way.send(tx, float("nan"))
