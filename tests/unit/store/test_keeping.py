"""Acknowledgements that wait: which answers, for what, and over which connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from orbit.errors import OutcomeUnknown
from orbit.protocol.ids import PublicName, TxId
from orbit.store import keeping as keeping_module
from orbit.store import types as t
from orbit.store.address import connector
from orbit.store.durability import MEMORY, Durability
from orbit.store.keeping import Keeping
from orbit.store.link import Link
from orbit.store.pipe import Asked, Command, Pipe
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.verify.proxy import Proxy
from tests.support.replicas import Pair, pair
from tests.support.waiting import PATIENCE_S

MARK = ("SET", "mark", "1")
REPLICATED = Durability("replicated", 1)
SYNCED = Durability("replicated-fsync", 1)
ANN = PublicName("ann-public-name-000000")
TX = TxId("transaction-00000001")


# ---- which order, which connection: on a pipe that answers what it is told to


class Told:
    """A pipe on which nothing is answered by itself."""

    def __init__(self) -> None:
        self.asked: list[tuple[Command, Asked]] = []
        self.connection = 1

    def send(self, command: Command, *, writes: bool) -> Asked:
        asked = Asked(b"", writes, asyncio.get_running_loop().create_future(), 0.0, self.connection)
        self.asked.append((command, asked))
        return asked

    async def close(self) -> None: ...

    @property
    def commands(self) -> list[str]:
        return [str(command[0]) for command, _ in self.asked]

    def answer(self, place: int, reply: Any) -> None:
        self.asked[place][1].reply.set_result(reply)


async def passes() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def keeping(told: Told) -> Keeping:
    return Keeping(cast(Pipe, told), REPLICATED, 5.0)


def ask(keeping: Keeping, name: str, *, acknowledges: bool = True) -> asyncio.Task[Any]:
    return asyncio.ensure_future(keeping.ask((name,), MARK, lambda reply: acknowledges))


async def test_one_wait_for_all_that_went_out_before_it(told: Told, keeping: Keeping) -> None:
    first = [ask(keeping, name) for name in ("a", "b", "c")]
    await passes()
    assert told.commands == ["a", "b", "c", "SET", "WAIT"]
    assert told.asked[4][0] == ("WAIT", 1, 2000)
    later = [ask(keeping, name) for name in ("d", "e")]
    await passes()
    assert told.commands[5:] == ["d", "e"], "the next wait gathers while one is under way"
    for place in range(7):
        if place != 4:
            told.answer(place, place)
    await passes()
    assert not any(task.done() for task in first + later)
    told.answer(4, 1)
    assert await asyncio.gather(*first) == [0, 1, 2]
    await passes()
    assert told.commands[7:] == ["SET", "WAIT"]
    assert not any(task.done() for task in later), "what went out after a wait isn't covered by it"
    told.answer(7, b"OK")
    told.answer(8, 1)
    assert await asyncio.gather(*later) == [5, 6]
    await passes()
    assert len(told.asked) == 9, "nobody joined: no more waits"


async def test_too_few_replicas_leave_it_unknown(told: Told, keeping: Keeping) -> None:
    task = ask(keeping, "a")
    await passes()
    for place, reply in enumerate((b"done", b"OK", 0)):
        told.answer(place, reply)
    with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
        await task


async def test_replicas_are_asked_for_their_disks_once_they_have_read_it_all(told: Told) -> None:
    """Asked as the write comes, a replica answers before it syncs, and says so by itself only a second later."""
    task = ask(Keeping(cast(Pipe, told), SYNCED, 5.0), "a")
    await passes()
    assert [command for command, _ in told.asked[1:]] == [MARK, ("WAIT", 1, 200), ("WAITAOF", 1, 1, 1800)]
    for place, reply in enumerate((b"done", b"OK", 1)):
        told.answer(place, reply)
    await passes()
    assert not task.done()
    told.answer(3, [1, 1])
    assert await task == b"done"


async def test_a_replica_that_was_slow_to_read_may_have_synced_in_time(told: Told) -> None:
    task = ask(Keeping(cast(Pipe, told), SYNCED, 5.0), "a")
    await passes()
    for place, reply in enumerate((b"done", b"OK", 0, [1, 1])):
        told.answer(place, reply)
    assert await task == b"done"


async def test_a_wait_over_another_connection_keeps_nothing(told: Told, keeping: Keeping) -> None:
    """The write was answered over the first connection, which broke; the wait went out over the second, perhaps to a
    server that never saw the write: with its own mark it would be answered."""
    task = ask(keeping, "a")
    await passes()
    told.asked[1][1].connection = told.asked[2][1].connection = 2
    for place, reply in enumerate((b"done", b"OK", 1)):
        told.answer(place, reply)
    with pytest.raises(OutcomeUnknown, match="the connection broke"):
        await task


async def test_a_mark_over_another_connection_than_its_wait_keeps_nothing(told: Told, keeping: Keeping) -> None:
    task = ask(keeping, "a")
    await passes()
    told.asked[0][1].connection = told.asked[2][1].connection = 2
    for place, reply in enumerate((b"done", b"OK", 1)):
        told.answer(place, reply)
    with pytest.raises(OutcomeUnknown, match="the connection broke"):
        await task


async def test_a_mark_that_was_refused_keeps_nothing(told: Told, keeping: Keeping) -> None:
    task = ask(keeping, "a")
    await passes()
    told.answer(0, b"done")
    told.asked[1][1].reply.set_exception(redis_errors.ReadOnlyError("You can't write against a read only replica."))
    told.answer(2, 1)
    with pytest.raises(OutcomeUnknown, match="read only"):
        await task


async def test_what_acknowledges_nothing_is_answered_at_once(told: Told, keeping: Keeping) -> None:
    task = ask(keeping, "a", acknowledges=False)
    await passes()
    told.answer(0, b"fenced")
    assert await task == b"fenced"


async def test_who_is_cancelled_disturbs_nobody(told: Told, keeping: Keeping) -> None:
    first, second = ask(keeping, "a"), ask(keeping, "b")
    await passes()
    first.cancel()
    for place, reply in enumerate((1, 2, b"OK", 1)):
        if place:
            told.answer(place, reply)
    assert await second == 2
    with pytest.raises(asyncio.CancelledError):
        await first


# ---- on servers


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as both:
        yield both


@pytest.fixture
async def both(servers: Pair) -> AsyncIterator[Pair]:
    await servers.linked()
    yield servers
    servers.resume_replica()


@pytest.fixture
async def kept(both: Pair, settings: StoreSettings) -> AsyncIterator[Store]:
    store = await Store.open(both.primary.url, replace(settings, durability=REPLICATED, timeout_s=10.0))
    yield store
    await store.close()


async def opened_hastily(url: str, kept: Store) -> Store:
    """One that gives a replica 200 ms, and the server long to say so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping_module, "WAIT_SHARE", 0.02)
        return await Store.open(url, kept.settings)


@pytest.fixture
async def hasty(both: Pair, kept: Store) -> AsyncIterator[Store]:
    store = await opened_hastily(both.primary.url, kept)
    yield store
    await store.close()


async def insisted(do: Callable[[], Awaitable[Any]]) -> Any:
    """The same again until it is acknowledged: the replica may need longer than it is given."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(OutcomeUnknown):
                return await do()


@pytest.fixture
async def careless(both: Pair, kept: Store, settings: StoreSettings) -> AsyncIterator[Store]:
    """Another process, whose writes nobody waits for: with connections of its own."""
    store = await Store.open(both.primary.url, settings, keep=False)
    yield store
    await store.close()


SPEC = t.Spec("default", "Demo", 1)


def new() -> t.NewTransaction:
    return t.NewTransaction(TX, "Demo", 1, "default", b"{}", "digest", False, 100, 600.0)


async def granted(store: Store) -> t.Grant:
    (grant,) = await store.claim(store.partition_of(TX), "w1", [SPEC], 1, 60_000, "r1")
    return grant


def message(mid: int) -> t.NewMessage:
    return t.NewMessage(b"data", session=ANN, mid=mid)


async def test_an_answer_comes_once_a_replica_has_it(both: Pair, kept: Store) -> None:
    assert await kept.start(new()) == t.Started(TX)
    assert await kept.append(TX, message(1)) == t.Stored(False, 1)
    async with Redis.from_url(both.replica.url) as replica:
        assert await replica.hget(kept.keys.transaction(TX) + ":sess", f"m:{ANN}") == b"1"


@pytest.mark.parametrize("verb", ["start", "append", "commit", "cancel", "retry", "attach", "session"])
async def test_no_acknowledgement_without_a_replica_and_the_same_again_finds_out(
    both: Pair, hasty: Store, careless: Store, verb: str
) -> None:
    """Done by another process, or by a try before: so here there is nothing to write, and still it isn't acknowledged
    while no replica has it. A wait after a mere read would be answered at once: this connection wrote nothing since."""
    do = await _done_before(careless, verb, both)
    with pytest.raises(OutcomeUnknown, match="0 of 1 replicas had it in time"):
        await do(hasty)
    both.resume_replica()
    answer = await insisted(lambda: do(hasty))
    assert answer is not None
    assert answer == await do(careless)


async def _done_before(careless: Store, verb: str, both: Pair) -> Any:
    """The verb, after it was done already, and after the replica was stopped between."""
    if verb == "start":
        both.stop_replica()
        await careless.start(new())
        return lambda store: store.start(new())
    await careless.start(new())
    if verb == "cancel":
        await granted(careless)
        both.stop_replica()
        await careless.cancel(TX, "")
        return lambda store: store.cancel(TX, "")
    if verb in ("commit", "retry"):
        grant = await granted(careless)
        end = t.NewEnd("failed") if verb == "retry" else None
        commit = t.Commit(TX, grant.epoch, 0, entries=(t.NewUpdate(b"u"),), end=end)
        if verb == "commit":
            both.stop_replica()
        await careless.commit(commit)
        if verb == "commit":
            return lambda store: store.commit(commit)
        both.stop_replica()
        await careless.retry(TX, "again")
        return lambda store: store.retry(TX, "again")
    both.stop_replica()
    await careless.append(TX, message(1))
    place = t.Place("e", "c", "1")
    return {
        "append": lambda store: store.append(TX, message(1)),
        "attach": lambda store: store.attach(TX, ANN, place, None),
        "session": lambda store: store.session(TX, ANN),
    }[verb]


async def test_what_acknowledges_nothing_needs_no_replica(both: Pair, hasty: Store) -> None:
    await insisted(lambda: hasty.start(new()))
    grant = await granted(hasty)
    both.stop_replica()
    other = t.Commit(TX, type(grant.epoch)("1" * 19), 0)
    assert await hasty.commit(other) == t.Fenced()
    answer = await hasty.attach(TX, ANN, t.Place("e", "c", "1"), None)
    assert isinstance(answer, t.AttachDone), "a session without messages is told nothing that could be lost"
    assert await hasty.renew(hasty.partition_of(TX), "w1", [t.Held(TX, grant.epoch, 0)], 60_000)
    assert isinstance(await hasty.release(TX, grant.epoch, 0, None, idle=False), t.Released)


async def test_a_reply_lost_then_the_same_bytes_again_then_the_wait(both: Pair, kept: Store) -> None:
    async with Proxy.before(both.primary.url) as proxy:
        store = await opened_hastily(proxy.url, kept)
        await insisted(lambda: store.start(new()))
        grant = await granted(store)
        commit = t.Commit(TX, grant.epoch, 0, entries=(t.NewUpdate(b"u"),))
        cut = proxy.cut_after(b"WAIT")
        with pytest.raises(OutcomeUnknown):
            await store.commit(commit)
        await cut.done.wait()
        both.stop_replica()
        with pytest.raises(OutcomeUnknown, match="0 of 1"):
            await store.commit(commit)
        both.resume_replica()
        assert isinstance(await insisted(lambda: store.commit(commit)), t.Repeated)
        await store.close()


async def test_many_share_a_wait(both: Pair, kept: Store) -> None:
    """A wait that is under way holds nobody up but those after it: 200 messages are stored in a few waits."""
    await kept.start(new())
    async with Redis.from_url(both.primary.url) as redis:
        await redis.config_resetstat()
        answers = await asyncio.gather(*(kept.append(TX, message(mid)) for mid in range(1, 201)))
        stats = await redis.info("commandstats")
    assert answers == [t.Stored(False, mid) for mid in range(1, 201)]
    assert stats["cmdstat_wait"]["calls"] <= 5


async def test_memory_waits_for_nobody(both: Pair) -> None:
    link = Link(connector(both.primary.url, 1), 1)
    await link.keep(MEMORY)
    both.stop_replica()
    assert await link.keep_read("k", "GET", "k") is None
    await link.close()
