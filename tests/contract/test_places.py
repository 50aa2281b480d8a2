"""attach, detach, sweep, and what is kept of sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbit.protocol.cursors import START
from orbit.protocol.ids import PublicName, TxId
from orbit.store import types as t
from orbit.store.types import StoreSettings
from tests.contract.house import ANN, BOB, Heard, House, place

covers = pytest.mark.covers


@pytest.fixture
def settings(settings: StoreSettings) -> StoreSettings:
    """Sessions are forgotten at once, where nothing holds them; a disconnect is told after a minute."""
    return StoreSettings(settings.namespace, timeout_s=settings.timeout_s, session_retain_s=0, grace_s=60)


# ---- attach


@covers("attach", "missing")
async def test_no_transaction_no_place(house: House) -> None:
    tx = house.new().tx
    assert await house.refused(house.store.attach(tx, ANN, place(), None)) == t.Missing()


@covers("attach", "barred")
async def test_a_barred_session_gets_no_place(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, barred=((ANN, "not you"),))
    assert await house.refused(house.store.attach(grant.tx, ANN, place(), None)) == t.Barred("not you")


@covers("attach", "subject")
async def test_a_session_belongs_to_the_subject_that_used_it_first(house: House) -> None:
    tx = await house.begin()
    assert isinstance(await house.store.attach(tx, ANN, place(), "ann"), t.AttachDone)
    for other in ("bob", None):
        assert await house.refused(house.store.attach(tx, ANN, place("e2"), other)) == t.NotPlace()
    assert isinstance(await house.store.attach(tx, ANN, place("e2"), "ann"), t.AttachDone)


@covers("attach", "crowded")
async def test_no_more_sessions_than_may_be(house: House) -> None:
    tx = await house.begin()
    house.store.settings = replace(house.store.settings, sessions=1)
    await house.attach(tx)
    assert await house.refused(house.store.attach(tx, BOB, place("e2"), None)) == t.Crowded()
    await house.attach(tx, at=place("e2"))
    assert await house.store.detach(tx, ANN, place("e2"))
    assert isinstance(await house.store.attach(tx, BOB, place("e2"), None), t.AttachDone)


async def test_a_session_without_a_subject_is_bound_by_the_first_one(house: House) -> None:
    tx = await house.begin()
    await house.attach(tx)
    assert isinstance(await house.store.attach(tx, ANN, place(), "ann"), t.AttachDone)
    assert await house.store.attach(tx, ANN, place(), "bob") == t.NotPlace()


@covers("attach", "ended")
async def test_an_ended_transaction_attaches_and_takes_no_place(house: House) -> None:
    grant = await house.run()
    done = await house.end(grant)
    answer = await house.refused(house.store.attach(grant.tx, ANN, place(), None))
    assert answer == t.AttachDone(None, done.head, 1, "finished", 0)


@covers("attach", "change")
async def test_attaching_says_what_there_is(house: House) -> None:
    grant = await house.run()
    assert await house.attach(grant.tx) == t.AttachDone(None, START, 0, "running", 0)
    done = await house.write(grant, 0, b"u")
    await house.send(grant.tx, 1)
    assert await house.attach(grant.tx, at=place("e2")) == t.AttachDone(place(), done.head, 1, "running", 1)
    assert await house.store.sessions(grant.tx) == ((t.SessionRow(ANN, None, 1, place("e2")),), 1)


async def test_attaching_again_at_the_same_place_took_it_from_nobody(house: House) -> None:
    tx = await house.begin()
    await house.attach(tx)
    assert (await house.attach(tx)).before is None


@covers("attach", "no change")
async def test_without_hooks_no_change_is_noted(house: House) -> None:
    grant = await house.run(connection_hooks=False)
    await house.attach(grant.tx)
    assert (await house.work(grant.tx)).changes == ()
    assert await house.store.detach(grant.tx, ANN, place())
    assert (await house.work(grant.tx)).next_change_ms is None


@covers("attach", "moved")
async def test_a_newer_attach_moves_the_session_to_its_edge(house: House) -> None:
    tx = await house.begin()
    await house.attach(tx, at=place("e1"))
    await house.attach(tx, at=place("e2"))
    partition = house.store.keys.partition(house.store.partition_of(tx))
    assert await house.redis.zcard(f"{partition}:places:e1") == 0
    assert await house.redis.zrange(f"{partition}:places:e2", 0, -1) == [f"{tx}:{ANN}".encode()]


@covers("lib/wake", "owner told", "made ready")
async def test_a_change_is_announced_to_the_owner_or_wakes_an_idle_one(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house)
    await house.attach(grant.tx)
    assert await heard.since() == [t.OwnerNudge(grant.tx, "change")]
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.release(grant.tx, grant.epoch, 1, None, idle=True)
    await house.attach(grant.tx, at=place("e2"))
    await heard.close()
    assert await house.status(grant.tx) == "pending"
    assert await house.is_ready(grant.tx)


# ---- an attach whose place Redis lost


async def again(house: House, tx: TxId, at: t.Place, attach: int, subject: str | None = None) -> object:
    return await house.store.attach_again(tx, ANN, at, subject, attach)


async def test_each_attach_has_a_higher_number(house: House) -> None:
    tx = await house.begin()
    first, second = await house.attach(tx), await house.attach(tx, at=place("e2"))
    assert 10**15 < first.attach < second.attach < 10**16


@covers("attach", "the clock went back")
async def test_a_number_is_higher_whatever_the_clock_says(house: House) -> None:
    tx = await house.begin()
    await house.attach(tx)
    ahead = 9_000_000_000_000_000
    await house.redis.hset(house.store.keys.transaction(tx) + ":sess", f"a:{ANN}", ahead)
    assert (await house.attach(tx, at=place("e2"))).attach == ahead + 1


@covers("attach", "held still")
async def test_a_place_that_is_held_still_is_left_as_it_is(house: House) -> None:
    tx = await house.begin()
    mine = await house.attach(tx)
    await house.send(tx, 1, place=place())
    answer = await house.refused(again(house, tx, place(), mine.attach))
    assert answer == t.AttachDone(None, START, 0, "pending", 1)


async def test_a_place_that_redis_lost_is_taken_again(house: House) -> None:
    tx = await house.begin()
    before = await house.keyspace()
    mine = await house.attach(tx)
    taken = await house.keyspace()
    await house.rewind(before)
    assert await again(house, tx, place(), mine.attach) == t.AttachDone(None, START, 0, "pending", 0)
    row = await house.session(tx)
    assert (row["p"], int(row["a"])) == (str(place()).encode(), mine.attach)
    assert {*await house.keyspace()} == {*taken}


@covers("attach", "a newer one")
async def test_a_place_is_never_taken_again_from_a_later_attach(house: House) -> None:
    """Edge 1 finds its place gone; before it has it again, the client attaches at edge 2, whose answer lets it number
    its messages anew. Were edge 1 to take the place now, what the client had sent to it would be stored as well."""
    tx = await house.begin()
    first = await house.attach(tx)
    await house.store.detach(tx, ANN, place())
    await house.attach(tx, at=place("e2"))
    await house.send(tx, 1, place=place("e2"))
    assert await house.refused(again(house, tx, place(), first.attach)) == t.Newer()
    assert await house.refused(house.store.append(tx, t.NewMessage(b"old", ANN, 2, place()))) == t.NotPlace()
    await house.store.detach(tx, ANN, place("e2"))
    assert await house.refused(again(house, tx, place(), first.attach)) == t.Newer(), "nor once that one has left"


async def test_a_later_attach_takes_its_place_again_from_an_earlier_one_that_redis_went_back_to(house: House) -> None:
    tx = await house.begin()
    first = await house.attach(tx)
    before = await house.keyspace()
    second = await house.attach(tx, at=place("e2"))
    await house.rewind(before)
    assert await again(house, tx, place("e2"), second.attach) == t.AttachDone(place(), START, 0, "pending", 0)
    assert await again(house, tx, place(), first.attach) == t.Newer()


async def test_an_attach_that_finds_its_place_lost_is_judged_as_any(house: House) -> None:
    grant = await house.run()
    mine = await house.store.attach(grant.tx, ANN, place(), "ann")
    assert isinstance(mine, t.AttachDone)
    assert await again(house, grant.tx, place(), mine.attach, "bob") == t.NotPlace()
    await house.commit(grant, barred=((ANN, "not you"),))
    assert await again(house, grant.tx, place(), mine.attach, "ann") == t.Barred("not you")
    assert await again(house, TxId("t" * 16), place(), mine.attach) == t.Missing()


async def test_the_places_that_redis_holds_for_an_edge(house: House) -> None:
    first, second = await house.begin(), await house.begin()
    await house.attach(first)
    await house.attach(second, BOB, place("e1", "c2", "3"))
    await house.attach(second, ANN, place("e2"))
    found = await house.store.places_of("e1")
    assert sorted(found) == sorted([(first, ANN, place()), (second, BOB, place("e1", "c2", "3"))])
    await house.attach(first, at=place("e2"))
    assert await house.store.places_of("e1") == [(second, BOB, place("e1", "c2", "3"))]


# ---- detach


@covers("detach", "not the place")
async def test_only_the_place_itself_is_freed(house: House) -> None:
    tx = await house.begin()
    assert not await house.refused(house.store.detach(tx, ANN, place()))
    await house.attach(tx)
    assert not await house.refused(house.store.detach(tx, ANN, place("e1", "c1", "2")))


@covers("detach", "freed")
@covers("lib/sessions", "nothing to tell", "forgotten")
async def test_a_row_that_nothing_hangs_on_goes_at_once(house: House) -> None:
    tx = await house.begin()
    before = await house.keyspace()
    await house.store.attach(tx, ANN, place(), "ann")
    assert await house.store.detach(tx, ANN, place())
    assert await house.keyspace() == before


async def test_what_is_told_of_nothing_is_not_woken(house: House) -> None:
    grant = await house.run(connection_hooks=False)
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=True)
    await house.attach(grant.tx)
    await house.store.detach(grant.tx, ANN, place())
    assert await house.status(grant.tx) == "idle"
    assert await house.due_members(grant.tx) == {}


@covers("lib/sessions", "to be told", "owner to tell", "remembered")
async def test_the_state_that_was_told_of_a_session_is_told_that_it_left(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    heard = await Heard.of(house)
    await house.store.detach(grant.tx, ANN, place())
    assert await heard.since() == [t.OwnerNudge(grant.tx, "change")]
    await heard.close()

    work = await house.work(grant.tx)
    assert work.changes == ()
    assert work.next_change_ms is not None
    assert 0 < work.next_change_ms <= 60_000
    await house.forget_times(grant.tx, ":changes")
    assert (await house.work(grant.tx)).changes == (t.SessionChange(ANN, "", str(place()), None),)


@covers("lib/sessions", "wakes to tell")
@covers("due", "woken")
async def test_an_idle_state_is_woken_after_the_grace(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.release(grant.tx, grant.epoch, 1, None, idle=True)
    await house.store.detach(grant.tx, ANN, place())
    assert await house.status(grant.tx) == "idle"

    await house.forget_times(grant.tx, ":changes")
    await house.pass_due(grant.tx, "t")
    await house.due(grant.tx)
    again = await house.claim_one(grant.tx)
    assert (await house.work(again.tx)).changes == (t.SessionChange(ANN, "", str(place()), None),)


async def test_a_wake_that_is_nearer_stays(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.release(grant.tx, grant.epoch, 1, None, idle=True, timers=(("r", 1_000),))
    due = await house.due_members(grant.tx)
    await house.store.detach(grant.tx, ANN, place())
    assert await house.due_members(grant.tx) == due


async def test_a_session_that_flaps_is_no_change(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.detach(grant.tx, ANN, place())
    await house.attach(grant.tx)
    work = await house.work(grant.tx)
    assert (work.changes, work.next_change_ms) == ((), None)


async def test_a_session_is_freed_after_the_end_too(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.send(grant.tx, 1)
    await house.end(grant)
    assert await house.store.detach(grant.tx, ANN, place())
    partition = house.store.keys.partition(house.store.partition_of(grant.tx))
    assert await house.redis.zcard(f"{partition}:places:e1") == 0
    assert (await house.store.attach(grant.tx, ANN, place(), None)).last_mid == 1  # type: ignore[union-attr]


# ---- what is kept


@covers("lib/sessions", "expired")
async def test_a_session_that_left_long_ago_is_forgotten(house: House) -> None:
    grant = await house.run(connection_hooks=False)
    await house.send(grant.tx, 1)
    (message,) = (await house.work(grant.tx)).incoming
    await house.commit(grant, consumed=(message.id,))
    assert await house.session(grant.tx) == {"m": b"1"}
    await house.attach(grant.tx, BOB)
    assert await house.session(grant.tx) == {}
    assert await house.redis.zcard(house.store.keys.transaction(grant.tx) + ":seen") == 0
    assert (await house.attach(grant.tx)).last_mid == 0


@covers("lib/sessions", "looked at later")
async def test_a_session_with_an_unread_message_is_kept(house: House) -> None:
    grant = await house.run(connection_hooks=False)
    await house.send(grant.tx, 1)
    await house.attach(grant.tx, BOB)
    assert (await house.attach(grant.tx)).last_mid == 1


async def test_a_session_that_is_connected_is_kept(house: House) -> None:
    grant = await house.run(connection_hooks=False)
    await house.send(grant.tx, 1)
    (message,) = (await house.work(grant.tx)).incoming
    await house.commit(grant, consumed=(message.id,))
    await house.attach(grant.tx)
    await house.attach(grant.tx, BOB)
    assert (await house.store.sessions(grant.tx))[1] == 2
    assert (await house.session(grant.tx))["m"] == b"1"


async def test_a_detach_forgets_those_that_left_long_ago_too(house: House) -> None:
    grant = await house.run(connection_hooks=False)
    await house.attach(grant.tx, BOB)
    await house.send(grant.tx, 1)
    (message,) = (await house.work(grant.tx)).incoming
    await house.commit(grant, consumed=(message.id,))
    await house.store.detach(grant.tx, BOB, place())
    assert await house.session(grant.tx) == {}


async def test_a_barred_session_is_not_forgotten(house: House) -> None:
    grant = await house.run()
    await house.send(grant.tx, 1)
    (message,) = (await house.work(grant.tx)).incoming
    await house.commit(grant, consumed=(message.id,), barred=((ANN, "not you"),))
    await house.attach(grant.tx, BOB)
    assert await house.store.attach(grant.tx, ANN, place(), None) == t.Barred("not you")


async def test_a_session_whose_leaving_is_untold_is_kept(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.detach(grant.tx, ANN, place())
    await house.attach(grant.tx, BOB)
    kept = await house.session(grant.tx)
    assert kept == {"t": str(place()).encode(), "a": kept["a"]}


# ---- edges that are gone


@covers("sweep", "freed")
async def test_the_places_of_a_silent_edge_are_freed(house: House) -> None:
    grants = [await house.run() for _ in range(4)]
    for grant in grants:
        await house.attach(grant.tx, at=place("gone"))
        await house.attach(grant.tx, BOB, at=place("alive"))
    await house.store.beat_edge("gone", 0)
    await house.store.beat_edge("alive", 60)
    assert await house.store.sweep_edges() == 4
    for grant in grants:
        rows, total = await house.store.sessions(grant.tx)
        assert ([row.session for row in rows], total) == ([BOB], 1)
    assert await house.store.sweep_edges() == 0


async def test_an_edge_that_was_late_keeps_what_it_attached_since(house: House) -> None:
    tx = await house.begin()
    await house.store.beat_edge("e1", 0)
    await house.attach(tx)
    partition = house.store.keys.partition(house.store.partition_of(tx))
    await house.redis.zadd(f"{partition}:places:e1", {f"{tx}:{ANN}": await house.now_ms() + 60_000})
    assert await house.store.sweep_edges() == 0
    assert (await house.store.sessions(tx))[1] == 1


@pytest.mark.parametrize("skew_ms", [-3_600_000, 3_600_000])
async def test_places_are_judged_by_their_own_server_s_clock(
    house: House, monkeypatch: pytest.MonkeyPatch, skew_ms: int
) -> None:
    """The edges' register may lie on a server whose clock is another one."""
    tx = await house.begin()
    await house.attach(tx, at=place("gone"))
    await house.pass_ms(2)
    _skew_register(house, monkeypatch, skew_ms)
    await house.redis.hset(house.store.keys.edges, "gone", "1 ")
    assert await house.store.sweep_edges() == 1
    assert (await house.store.sessions(tx))[1] == 0
    assert await house.redis.hexists(house.store.keys.edges, "gone"), "until nothing of it is left"
    assert await house.store.sweep_edges() == 0
    assert not await house.redis.hexists(house.store.keys.edges, "gone")


@pytest.mark.parametrize("look", [1, 2])
@pytest.mark.parametrize("skew_ms", [-3_600_000, 0, 3_600_000])
async def test_an_edge_that_comes_back_during_a_sweep_keeps_what_it_attaches(
    house: House, monkeypatch: pytest.MonkeyPatch, skew_ms: int, look: int
) -> None:
    """The sweeper finds it dead (once, or twice), it beats and attaches, and only then its places are freed."""
    tx = await house.begin()
    await house.attach(tx, at=place("late"))
    looks = _skew_register(house, monkeypatch, skew_ms)
    await house.redis.hset(house.store.keys.edges, "late", "1 ")

    async def come_back() -> None:
        if len(looks) == look:
            await house.store.beat_edge("late", 7_200)
            await house.attach(tx, at=place("late", attach="2"))

    monkeypatch.setattr(looks, "then", come_back)
    await house.store.sweep_edges()
    assert (await house.store.sessions(tx))[0][0].place == place("late", attach="2")


class Looks(list[int]):
    """The looks at the register so far, and what happens after each."""

    async def then(self) -> None:
        """Nothing."""


def _skew_register(house: House, monkeypatch: pytest.MonkeyPatch, skew_ms: int) -> Looks:
    """As if the edges' register lay on a server with another clock."""
    looks, alive = Looks(), house.store._alive

    async def skewed(register: str) -> tuple[int, dict[str, tuple[int, str]]]:
        now, records = await alive(register)
        looks.append(now)
        await looks.then()
        return now + skew_ms, records

    monkeypatch.setattr(house.store, "_alive", skewed)
    return looks


@covers("sweep", "stale")
async def test_what_moved_on_or_is_gone_is_swept_quietly(house: House) -> None:
    tx = await house.begin()
    await house.attach(tx, at=place("alive"))
    partition = house.store.keys.partition(house.store.partition_of(tx))
    await house.redis.zadd(f"{partition}:places:gone", {f"{tx}:{ANN}": 1, f"{'x' * 16}:{ANN}": 1})
    await house.store.beat_edge("gone", 0)
    await house.store.sweep_edges()
    assert await house.redis.zcard(f"{partition}:places:gone") == 0
    assert (await house.store.sessions(tx))[1] == 1


async def test_more_places_than_one_call_frees(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbit.store.edges.SWEEP_AT_ONCE", 3)
    tx = await house.begin()
    for i in range(7):
        await house.attach(tx, PublicName(f"session-{i}"))
    await house.store.forget_edge("e1")
    assert (await house.store.sessions(tx))[1] == 0


@covers("rows", "row")
async def test_the_connected_sessions_are_listed_in_part(house: House) -> None:
    tx = await house.begin()
    await house.store.attach(tx, ANN, place(), "ann")
    await house.attach(tx, BOB)
    rows, total = await house.store.sessions(tx, limit=1)
    assert (len(rows), total) == (1, 2)
    rows, _ = await house.store.sessions(tx)
    assert {(row.session, row.subject) for row in rows} == {(ANN, "ann"), (BOB, None)}
