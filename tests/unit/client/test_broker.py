"""`Broker` on a real server, with the worker's part done by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import pytest

from orbit.client import Advance, Broker, End, Reset, TransactionInfo, Update
from orbit.client.following import HEARD_MESSAGES, Ear
from orbit.errors import (
    BadRequest,
    Conflict,
    Ended,
    Gone,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    TransactionFailed,
    Unavailable,
    UpdatesReset,
)
from orbit.protocol.cursors import START
from orbit.protocol.entries import Failure, LiveMessage
from orbit.protocol.ids import Epoch
from orbit.store.embedded import EmbeddedServer
from orbit.store.starts import by_class, draw_id
from orbit.store.store import Store
from orbit.store.types import Missing, NewTransaction, Work
from tests.support.waiting import PATIENCE_S
from tests.unit.client.job import RECORD, Count, Job

NOBODY = "nobody-0123456789"


async def take(events: AsyncIterator[object], count: int) -> list[object]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(events) for _ in range(count)]


# ---- starting


async def test_a_start_by_name_is_judged_by_the_published_schema(store: Store, broker: Broker) -> None:
    with pytest.raises(BadRequest, match="no worker has run yet"):
        await broker.start("Count", {"total": 1})
    await store.publish_states([RECORD])
    with pytest.raises(BadRequest, match="unknown State 'Nope'; known: Count"):
        await broker.start("Nope", {})
    with pytest.raises(BadRequest, match="total: is missing"):
        await broker.start("Count")
    info = await broker.get(await broker.start("Count", {"total": 1}))
    assert (info.state, info.status, info.queue, info.cursor, info.over) == ("Count", "pending", "default", "0", False)


async def test_a_start_by_class_is_validated_in_full(broker: Broker) -> None:
    with pytest.raises(BadRequest, match="name: Value error, must be lower case") as raised:
        await broker.start(Count, {"sum": 1, "name": "SECRET"})
    assert "SECRET" not in str(raised.value)
    with pytest.raises(BadRequest, match="sum: Field required"):
        await broker.start(Count)
    assert await broker.start(Count, {"sum": 1})
    tx = await broker.start(Count, {"total": 1, "blob": b"\xff"}, id="a" * 16)
    assert tx == await broker.start(Count, {"sum": 1, "blob": b"\xff"}, id="a" * 16)
    whole = by_class(Count(sum=1), {}, draw_id())
    assert whole.fields == b'{"total":1,"blob":"","name":""}', "a State goes as it is"
    assert await broker.start(Count(sum=1))
    with pytest.raises(BadRequest, match="holds its input itself"):
        await broker.start(Count(sum=1), {"sum": 1})
    changed = Count(sum=1)
    changed.name = "SECRET"
    with pytest.raises(BadRequest, match="must be lower case"):
        await broker.start(changed)
    changed.name = "\ud800"
    with pytest.raises(BadRequest, match="can't be written down"):
        await broker.start(changed)


async def test_the_same_start_again_is_the_same_transaction(broker: Broker) -> None:
    one = await broker.start(Count, {"sum": 1}, id="a" * 16)
    assert one == await broker.start(Count, {"total": 1}, id="a" * 16) == "a" * 16
    with pytest.raises(Conflict):
        await broker.start(Count, {"sum": 2}, id="a" * 16)
    keyed = await broker.start(Count, {"sum": 1}, idempotency_key="k")
    assert keyed == await broker.start(Count, {"sum": 1}, idempotency_key="k")
    assert keyed != await broker.start(Count, {"sum": 1}, idempotency_key="l")
    with pytest.raises(Conflict):
        await broker.start(Count, {"sum": 1}, idempotency_key="k", delay_s=1)


async def test_a_start_that_makes_no_sense_is_refused(broker: Broker) -> None:
    with pytest.raises(BadRequest, match="16 to 64"):
        await broker.start(Count, {"sum": 1}, id="short")
    with pytest.raises(BadRequest, match="not both"):
        await broker.start(Count, {"sum": 1}, id="a" * 16, idempotency_key="k")
    for delay_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadRequest, match="delay_s"):
            await broker.start(Count, {"sum": 1}, delay_s=delay_s)
    with pytest.raises(TooLarge):
        await broker.start(Count, {"sum": 1, "name": "x" * 2**23})


async def test_a_start_of_unknown_outcome_is_done_again(
    store: Store, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, lost = store.start, [1, 2]

    async def losing(new: NewTransaction) -> object:
        answer = await start(new)
        if lost:
            lost.pop()
            raise OutcomeUnknown("the reply was lost")
        return answer

    monkeypatch.setattr(store, "start", losing)
    tx = await broker.start(Count, {"sum": 1})
    assert [info.id for info in (await broker.list()).transactions] == [tx]


# ---- looking and steering


async def test_unknown_ids_are_not_found(broker: Broker) -> None:
    for verb in (broker.get, broker.result, broker.cancel):
        with pytest.raises(NotFound):
            await verb(NOBODY)
    with pytest.raises(NotFound):
        await broker.send(NOBODY, 1)
    for after in ("0", "$"):
        with pytest.raises(NotFound):
            await anext(broker.updates(NOBODY, after=after))
    with pytest.raises(BadRequest):
        await broker.get("?")
    with pytest.raises(BadRequest):
        await anext(broker.updates(NOBODY, after="7"))


async def test_lists_come_in_pages_newest_first(broker: Broker) -> None:
    started = [await broker.start(Count, {"sum": n}) for n in range(3)]
    first = await broker.list(limit=2)
    second = await broker.list(limit=2, page=first.next)
    assert sorted(info.id for info in (*first.transactions, *second.transactions)) == sorted(started)
    assert second.next is None


async def test_states_are_told_with_their_schema(store: Store, broker: Broker) -> None:
    await store.publish_states([RECORD])
    [state] = await broker.states()
    assert (state.name, state.version, state.workers, state.schema["required"]) == ("Count", 1, 0, ["total"])


async def test_messages_are_stored_or_refused(broker: Broker, job: Job) -> None:
    await broker.send(job.tx, {"a": b"\x00"})
    await broker.send(job.tx, 1, idempotency_key="k")
    await broker.send(job.tx, 1, idempotency_key="k")
    await broker.send(job.tx, 2)
    with pytest.raises(Overloaded):
        await broker.send(job.tx, 3)
    with pytest.raises(BadRequest):
        await broker.send(job.tx, float("nan"))
    with pytest.raises(TooLarge):
        await broker.send(job.tx, "x" * 2**20)
    work = await job.store.read_work(job.tx, None, 10)
    assert isinstance(work, Work)
    assert len(work.incoming) == 3
    await job.end()
    with pytest.raises(Ended):
        await broker.send(job.tx, 1)
    with pytest.raises(Ended):
        await broker.cancel(job.tx)


async def test_a_cancel_ends_at_once_what_never_ran(broker: Broker) -> None:
    tx = await broker.start(Count, {"sum": 1})
    await broker.cancel(tx, "no more")
    with pytest.raises(TransactionFailed) as raised:
        await broker.result(tx)
    assert raised.value.status == "cancelled"


async def test_a_result_is_waited_for(broker: Broker, job: Job) -> None:
    with pytest.raises(TimeoutError):
        await broker.result(job.tx, wait_s=0.01)
    waits = asyncio.create_task(broker.result(job.tx))
    async with aclosing(broker.events(job.tx)) as events:
        await job.update(1)
        await take(events, 1)
        await job.end(result={"hash": b"\xff"})
        [end] = await take(events, 1)
        assert isinstance(end, End)
    assert await waits == {"hash": b"\xff"}
    info = await broker.get(job.tx)
    assert isinstance(info, TransactionInfo)
    assert info.over
    assert info.outcome() == {"hash": b"\xff"}


async def test_a_failure_is_raised(broker: Broker, job: Job) -> None:
    await job.end("failed", error=Failure("ValueError", "it broke"))
    with pytest.raises(TransactionFailed, match="it broke") as raised:
        await broker.result(job.tx)
    assert (raised.value.status, raised.value.type) == ("failed", "ValueError")


# ---- following


async def test_updates_come_from_the_log_and_then_live(broker: Broker, job: Job) -> None:
    await job.update(1, 2)
    async with aclosing(broker.updates(job.tx)) as updates:
        first = await take(updates, 2)
        assert [update.data for update in first if isinstance(update, Update)] == [1, 2]
        for n in (3, 4):
            await job.update(n)
            [update] = await take(updates, 1)
            assert isinstance(update, Update)
            assert update.data == n
        await job.end()
        with pytest.raises(StopAsyncIteration):
            await anext(updates)
    head = first[-1]
    assert isinstance(head, Update)
    assert [update.data async for update in broker.updates(job.tx, after=head.cursor)] == [3, 4]
    assert [update.data async for update in broker.updates(job.tx)] == [1, 2, 3, 4]
    end = [event async for event in broker.events(job.tx, after=(await broker.get(job.tx)).cursor)]
    assert end == [], "who saw the end sees nothing more"


async def test_only_what_is_new(broker: Broker, job: Job) -> None:
    await job.update(1)
    async with aclosing(broker.updates(job.tx, after="$")) as updates:
        waits = asyncio.create_task(take(updates, 1))
        while not broker._watcher or job.tx not in broker._watcher._ears:
            await asyncio.wait({waits}, timeout=0.001)
        await job.update(2)
        [update] = await waits
        assert isinstance(update, Update)
        assert update.data == 2


async def test_what_is_for_one_session_is_passed_by(broker: Broker, job: Job) -> None:
    await job.update("secret", session="s" * 16)
    async with aclosing(broker.events(job.tx)) as events:
        [advance] = await take(events, 1)
        assert isinstance(advance, Advance)
        await job.update("all")
        [update] = await take(events, 1)
        assert isinstance(update, Update)
        assert update.data == "all"


async def test_a_trimmed_log_is_told(broker: Broker, job: Job) -> None:
    for n in range(30):
        await job.commit(entries=(), snapshot=b'{"total":3}', view=b"\x01")
        await job.update(n)
    with pytest.raises(UpdatesReset) as raised:
        await anext(broker.updates(job.tx))
    assert raised.value.reason == "trimmed"
    rest = broker.events(job.tx, after=raised.value.cursor)
    async with aclosing(rest):
        [update] = await take(rest, 1)
        assert isinstance(update, Update)
    whole = broker.events(job.tx)
    async with aclosing(whole):
        [reset] = await take(whole, 1)
        assert isinstance(reset, Reset)


async def test_a_removed_transaction_is_gone(broker: Broker, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    async with aclosing(broker.updates(job.tx)) as updates:
        await job.update(1)
        await take(updates, 1)

        async def removed(*_: object) -> Missing:
            return Missing()

        monkeypatch.setattr(job.store, "read_log", removed)
        assert broker._watcher is not None
        broker._watcher._on_gap()
        with pytest.raises(Gone):
            await take(updates, 1)


async def test_many_follow_over_one_subscription(broker: Broker, job: Job) -> None:
    async with aclosing(broker.updates(job.tx)) as one, aclosing(broker.updates(job.tx)) as other:
        await job.update(1)
        assert [await take(one, 1), await take(other, 1)]
        assert broker._watcher is not None
        assert len(broker._watcher._ears[job.tx]) == 2
    assert not broker._watcher._ears


async def test_a_server_that_restarts_loses_nothing() -> None:
    async with EmbeddedServer() as server, Broker(server.url, namespace="n") as broker:
        store = await broker._open()
        job = await Job.started(store, broker)
        async with aclosing(broker.updates(job.tx)) as updates:
            await job.update(1)
            await take(updates, 1)
            waits = asyncio.create_task(take(updates, 1))
            await server.restart()
            await commit_when_back(job)
            [update] = await waits
            assert isinstance(update, Update)
            assert update.data == 2


async def commit_when_back(job: Job) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Unavailable, OutcomeUnknown):
                return await job.update(2)


# ---- an ear


def live(number: int) -> LiveMessage:
    return LiveMessage(number, Epoch("0" * 19), number - 1, START, (), START, "running")


async def test_an_ear_keeps_what_it_heard_in_order() -> None:
    ear = Ear()
    ear.hear(live(1))
    ear.hear(live(2))
    assert await ear.listen() == ([live(1), live(2)], False)


async def test_an_ear_that_overflows_says_that_it_missed_something() -> None:
    ear = Ear()
    for n in range(HEARD_MESSAGES + 1):
        ear.hear(live(n))
    assert await ear.listen() == ([], True)
    ear.hear(live(1))
    assert await ear.listen() == ([live(1)], False)


async def test_a_quiet_ear_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbit.client.following.LOOK_AGAIN_S", 0.01)
    assert await Ear().listen() == ([], True)
