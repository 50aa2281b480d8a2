"""log, work, load, list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbit.errors import BadRequest
from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import LogPage, LogReset
from orbit.protocol.ids import Epoch, InboxId, TxId
from orbit.store import types as t
from tests.contract.house import ANN, BOB, SPEC, House, place

covers = pytest.mark.covers


# ---- log


@covers("log", "missing")
async def test_no_log(house: House) -> None:
    assert await house.store.read_log(house.new().tx, START, 10) == t.Missing()


@covers("log", "from the start", "confirmed", "page", "more")
async def test_a_log_in_pages(house: House) -> None:
    grant = await house.run()
    done = await house.write(grant, 0, *(b"%d" % i for i in range(25)))
    seen, after, pages = [], START, 0
    while True:
        page = await house.store.read_log(grant.tx, after, 10)
        assert isinstance(page, LogPage)
        assert (page.number, page.head, page.status) == (1, done.head, "running")
        seen += [entry.data for entry in page.entries]  # type: ignore[union-attr]
        pages += 1
        if not page.more:
            break
        after = page.entries[-1].cursor
    assert (seen, pages) == ([b"%d" % i for i in range(25)], 3)
    assert await house.log(grant.tx, done.head) == ()


async def test_a_page_ends_with_its_bytes(house: House) -> None:
    house.store.settings = replace(house.store.settings, max_page_bytes=1_000)
    grant = await house.run()
    await house.write(grant, 0, *(b"x" * 400 for _ in range(20)), b"y" * 5_000, b"z")
    sizes, after, more = [], START, True
    while more:
        page = await house.store.read_log(grant.tx, after, 100)
        assert isinstance(page, LogPage)
        sizes.append(len(page.entries))
        after, more = page.entries[-1].cursor, page.more
    assert sum(sizes) == 22
    assert max(sizes) == 3


@covers("log", "rewound")
async def test_a_cursor_of_another_history_is_rewound(house: House) -> None:
    grant = await house.run()
    await house.write(grant, 0, b"kept")
    then = await house.keyspace()
    lost = await house.write(grant, 1, b"lost")
    further = await house.write(grant, 2, b"lost")
    await house.rewind(then)
    await house.store.release(grant.tx, grant.epoch, 2, None, idle=False)
    again = await house.claim_one(grant.tx)
    done = await house.write(again, 1, b"new")
    for cursor in (lost.head, further.head, Cursor(99, grant.epoch), Cursor(1, Epoch("9" * 19))):
        reset = await house.store.read_log(grant.tx, cursor, 10)
        assert reset == LogReset(START, "rewound", None, 2, done.head, "running")
    assert len(await house.log(grant.tx, Cursor(1, grant.epoch))) == 1


@covers("log", "trimmed")
async def test_a_cursor_that_was_trimmed(house: House) -> None:
    grant = await house.run(keep_updates=10)
    done = await house.commit(grant, 0, entries=tuple(t.NewUpdate(b"u") for _ in range(40)), snapshot=b"{}")
    assert isinstance(done, t.Done)
    last = Cursor(30, grant.epoch)
    trimmed = LogReset(last, "trimmed", None, 1, done.head, "running")
    assert await house.store.read_log(grant.tx, START, 10) == trimmed
    assert await house.store.read_log(grant.tx, Cursor(29, grant.epoch), 10) == trimmed
    assert len(await house.log(grant.tx, last)) == 10, "the last trimmed one is confirmed"

    rewound = LogReset(last, "rewound", None, 1, done.head, "running")
    older, newer = Epoch("1" * 19), Epoch("9" * 19)
    assert await house.store.read_log(grant.tx, Cursor(30, older), 10) == rewound
    assert await house.store.read_log(grant.tx, Cursor(29, newer), 10) == rewound
    assert await house.store.read_log(grant.tx, Cursor(31, newer), 10) == rewound


async def test_a_reset_starts_from_the_view(house: House) -> None:
    grant = await house.run(keep_updates=10)
    for number in range(4):
        await house.write(grant, number, b"u")
    await house.commit(grant, 4, view=b"view", snapshot=b"{}")
    for number in range(5, 30):
        await house.commit(grant, number, entries=(t.NewUpdate(b"u"),), snapshot=b"{}")
    reset = await house.store.read_log(grant.tx, START, 100)
    assert isinstance(reset, LogReset)
    assert (reset.reason, reset.view, reset.cursor) == ("trimmed", b"view", Cursor(4, grant.epoch))
    assert [one.cursor.seq for one in await house.log(grant.tx, reset.cursor)] == list(range(5, 30))


# ---- work


@covers("work", "missing")
async def test_no_work(house: House) -> None:
    assert await house.store.read_work(house.new().tx, None, 10) == t.Missing()


@covers("work", "work", "after", "more", "change")
async def test_work_in_pages(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    for mid in range(1, 11):
        await house.send(grant.tx, mid)
    first = await house.work(grant.tx, limit=4)
    assert (first.number, first.epoch, first.cancel) == (0, grant.epoch, None)
    assert ([one.mid for one in first.incoming], first.more) == ([1, 2, 3, 4], True)
    assert first.changes == (t.SessionChange(ANN, str(place()), None, None),)
    second = await house.work(grant.tx, first.incoming[-1].id, limit=6)
    assert ([one.mid for one in second.incoming], second.more) == ([5, 6, 7, 8, 9, 10], False)
    assert (await house.work(grant.tx, second.incoming[-1].id)).incoming == ()


async def test_work_ends_with_its_bytes(house: House) -> None:
    house.store.settings = replace(house.store.settings, max_page_bytes=1_000)
    grant = await house.run()
    for mid in range(1, 4):
        await house.send(grant.tx, mid, data=b"x" * 5_000)
    work = await house.work(grant.tx)
    assert ([one.mid for one in work.incoming], work.more) == ([1], True)


async def test_work_tells_more_changes_than_fit(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.attach(grant.tx, BOB)
    work = await house.work(grant.tx, limit=1)
    assert (len(work.changes), work.next_change_ms) == (1, 0)


async def test_work_tells_what_the_state_knows_of_each_sender(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.send(grant.tx, 1)
    await house.send(grant.tx, 1, BOB)
    assert (await house.work(grant.tx)).told == {ANN: str(place()), BOB: None}


@covers("work", "lost", "lost, its place taken again")
async def test_after_a_rewind_no_message_hides_behind_the_last_one_seen(house: House) -> None:
    grant = await house.run()
    then = await house.keyspace()
    for mid in (1, 2, 3):
        await house.send(grant.tx, mid)
    seen = (await house.work(grant.tx)).incoming
    assert not (await house.work(grant.tx, seen[-1].id)).lost
    await house.rewind(then)
    await house.send(grant.tx, 1)
    work = await house.work(grant.tx, seen[-1].id)
    assert ([one.mid for one in work.incoming], work.lost) == ([1], True)
    await house.send(grant.tx, 2)
    await house.send(grant.tx, 3)
    work = await house.work(grant.tx, seen[-1].id)
    assert ([one.mid for one in work.incoming], work.lost) == ([1, 2, 3], True)
    assert {one.id for one in seen}.isdisjoint(one.id for one in work.incoming)


async def test_inbox_ids_are_never_used_again(house: House) -> None:
    grant = await house.run()
    ids: set[InboxId] = set()
    for mid in range(1, 6):
        await house.send(grant.tx, mid)
        (message,) = (await house.work(grant.tx)).incoming
        await house.commit(grant, mid - 1, consumed=(message.id,))
        ids.add(message.id)
    assert [one.split("-")[0] for one in sorted(ids)] == ["1", "2", "3", "4", "5"]


# ---- load


@covers("lib/loading", "committed before")
async def test_what_was_committed_is_loaded(house: House) -> None:
    grant = await house.run()
    fresh = await house.store.load(grant.tx, grant.epoch)
    assert isinstance(fresh, t.Loaded)
    assert (fresh.names, fresh.children, fresh.view_head) == ({}, (), None)
    await house.commit(grant, names=(("a", b"1"),), view=b"v", outbox=(("s/a-child-of-this/key", b"start"),))
    loaded = await house.store.load(grant.tx, grant.epoch)
    assert isinstance(loaded, t.Loaded)
    assert (loaded.names, loaded.children) == ({"a": b"1"}, ("s/a-child-of-this/key",))
    assert loaded.view_head == loaded.head


@covers("load", "vanished", "fenced", "loaded")
async def test_only_the_holder_loads(house: House) -> None:
    grant = await house.run()
    assert isinstance(await house.store.load(grant.tx, grant.epoch), t.Loaded)
    assert await house.store.load(grant.tx, Epoch("1" * 19)) == t.Fenced()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=True)
    assert await house.store.load(grant.tx, grant.epoch) == t.Fenced()
    assert await house.store.load(TxId("nowhere-to-be-found"), grant.epoch) == t.Vanished()


# ---- list


async def pages(house: House, limit: int, **query: str) -> list[list[TxId]]:
    found, page = [], None
    while True:
        answer = await house.store.list(limit=limit, page=page, **query)
        found.append([one.tx for one in answer.transactions])
        page = answer.next
        if page is None:
            return found


async def made(house: House, count: int, **changes: object) -> list[TxId]:
    """Transactions made one after another, newest first."""
    txs = []
    for _ in range(count):
        txs.append(await house.begin(**changes))
        await house.pass_ms(1)
    return txs[::-1]


@covers("list", "found", "more", "all")
async def test_a_listing_is_newest_first_over_all_partitions(house: House) -> None:
    txs = await made(house, 25)
    assert len({house.store.partition_of(tx) for tx in txs}) == 2
    for limit in (1, 3, 10, 24, 25, 100):
        found = await pages(house, limit)
        assert [tx for page in found for tx in page] == txs, limit
        assert max(map(len, found)) <= limit
    assert (await house.store.list()).transactions[0].state == "Demo"


async def test_transactions_of_one_instant_are_all_listed(house: House) -> None:
    txs = [await house.begin() for _ in range(70)]
    for partition in range(house.store.partitions):
        key = house.store.keys.partition(partition) + ":index"
        await house.redis.zadd(key, {tx: 1_000 for tx in txs if house.store.partition_of(tx) == partition})
    for tx in txs:
        await house.redis.hset(house.store.keys.transaction(tx), "created", "1000")
    for limit in (7, 60):
        found = [tx for page in await pages(house, limit) for tx in page]
        assert found == sorted(txs, reverse=True)


async def test_a_listing_can_be_filtered(house: House) -> None:
    demo, other = await made(house, 5), await made(house, 5, state="Other")
    for tx in (demo[0], other[0]):
        await house.store.cancel(tx, "why")
    assert [tx for page in await pages(house, 2, state="Other") for tx in page] == other
    assert [tx for page in await pages(house, 2, status="cancelled") for tx in page] == [other[0], demo[0]]
    assert [tx for page in await pages(house, 2, state="Demo", status="pending") for tx in page] == demo[1:]
    assert (await house.store.list(state="None")).transactions == ()


async def test_a_filter_that_fits_little_gives_short_pages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbit.store.listing._SCAN", 2)
    monkeypatch.setattr("orbit.store.listing._ROUNDS", 2)
    txs = await made(house, 30)
    await house.store.cancel(txs[-1], "why")
    found = await pages(house, 10, status="cancelled")
    assert [tx for page in found for tx in page] == [txs[-1]]
    assert len(found) > 2
    assert found[0] == []


async def test_a_page_of_large_results_is_short(house: House) -> None:
    house.store.settings = replace(house.store.settings, max_page_bytes=20_000)
    for _ in range(6):
        grant = await house.run()
        await house.commit(grant, end=t.NewEnd("finished", b"x" * 9_000))
    found = await pages(house, 100)
    assert sum(map(len, found)) == 6
    assert max(map(len, found)) <= 3


@pytest.mark.parametrize("page", ["", "?", "bm90IGEgcGFnZQ", "MTIzIGFiYw", "é"])
async def test_a_page_that_is_none(house: House, page: str) -> None:
    with pytest.raises(BadRequest, match="page"):
        await house.store.list(page=page)


async def test_nothing_to_list(house: House) -> None:
    assert await house.store.list() == t.ListPage((), None)
    assert await house.store.get(house.new().tx) is None
    assert await house.store.ready_counts([SPEC]) == {SPEC: 0}
