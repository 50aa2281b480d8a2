"""commit: all that a turn did, or nothing."""

from __future__ import annotations

import pytest

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import EndEntry, Failure, LiveMessage, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Epoch, InboxId
from orbit.store import types as t
from tests.contract.house import ANN, BOB, LEASE_MS, SPEC, Heard, House, place

covers = pytest.mark.covers


# ---- refusals


@covers("commit", "vanished")
async def test_vanished(house: House) -> None:
    before = await house.keyspace()
    grant = await house.run()
    await house.write(grant, 0, b"u")
    await house.rewind(before)
    assert await house.refused(house.commit(grant, 1, entries=(t.NewUpdate(b"u"),))) == t.Vanished()


@covers("commit", "fenced")
async def test_fenced_by_another_epoch(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=False)
    again = await house.claim_one(grant.tx, "w2")
    assert await house.refused(house.commit(grant, entries=(t.NewUpdate(b"late"),))) == t.Fenced()
    await house.write(again, 0, b"u")
    assert await house.refused(house.commit(grant, 1, entries=(t.NewUpdate(b"late"),))) == t.Fenced()


async def test_a_commit_that_was_done_is_fenced_once_another_holds_it(house: House) -> None:
    grant = await house.run()
    await house.write(grant, 0, b"u")
    await house.store.release(grant.tx, grant.epoch, 1, None, idle=False)
    await house.claim_one(grant.tx, "w2")
    assert await house.refused(house.commit(grant, 0, entries=(t.NewUpdate(b"u"),))) == t.Fenced()


@covers("commit", "released")
async def test_fenced_by_its_own_release(house: House) -> None:
    grant = await house.run()
    await house.store.release(grant.tx, grant.epoch, 0, None, idle=True)
    assert await house.refused(house.commit(grant, entries=(t.NewUpdate(b"late"),))) == t.Fenced()


@covers("commit", "another number")
async def test_rewound_by_the_number(house: House) -> None:
    grant = await house.run()
    await house.write(grant, 0, b"one")
    then = await house.keyspace()
    await house.write(grant, 1, b"two")
    await house.rewind(then)
    assert await house.refused(house.commit(grant, 2, entries=(t.NewUpdate(b"three"),))) == t.Rewound()


async def test_a_number_of_the_past_is_no_repetition(house: House) -> None:
    grant = await house.run()
    for number in range(3):
        await house.write(grant, number, b"u")
    assert await house.refused(house.commit(grant, 1, entries=(t.NewUpdate(b"u"),))) == t.Rewound()


@covers("commit", "consumed entry gone")
async def test_rewound_by_a_consumed_entry(house: House) -> None:
    grant = await house.run()
    then = await house.keyspace()
    await house.send(grant.tx, 1)
    (message,) = (await house.work(grant.tx)).incoming
    await house.rewind(then)
    assert await house.refused(house.commit(grant, consumed=(message.id,))) == t.Rewound()
    await house.send(grant.tx, 1, data=b"another message at the same place")
    assert await house.refused(house.commit(grant, consumed=(message.id,))) == t.Rewound()
    (other,) = (await house.work(grant.tx)).incoming
    assert await house.refused(house.commit(grant, consumed=(other.id, message.id))) == t.Rewound()
    assert isinstance(await house.commit(grant, consumed=(other.id,)), t.Done)


# ---- repeated


@covers("commit", "repeated")
async def test_the_same_commit_again_is_recognised(house: House) -> None:
    grant = await house.run()
    await house.send(grant.tx, 1)
    await house.store.cancel(grant.tx, "why")
    done = await house.write(grant, 0, b"u")
    repeated = t.Repeated(1, done.head, "why", True)
    assert await house.refused(house.commit(grant, 0, entries=(t.NewUpdate(b"u"),))) == repeated
    await house.store.release(grant.tx, grant.epoch, 1, None, idle=False)
    assert await house.refused(house.commit(grant, 0, entries=(t.NewUpdate(b"u"),))) == repeated, "it was done"


@covers("commit", "repeated, ended")
async def test_the_same_end_again_is_recognised(house: House) -> None:
    grant = await house.run()
    done = await house.end(grant)
    again = house.commit(grant, 0, end=t.NewEnd("finished"))
    assert await house.refused(again) == t.Repeated(1, done.head, None, False)


async def test_a_commit_that_redis_lost_is_done_anew(house: House) -> None:
    grant = await house.run()
    then = await house.keyspace()
    done = await house.write(grant, 0, b"u")
    await house.rewind(then)
    assert await house.write(grant, 0, b"u") == done


# ---- what is written


@covers("commit", "done")
async def test_updates_and_refusals(house: House) -> None:
    grant = await house.run()
    entries = (t.NewUpdate(b"all"), t.NewUpdate(b"ann", ANN), t.NewRefusal(BOB, 7, "forbidden", "not you"))
    answer = await house.commit(grant, entries=entries)
    at = [Cursor(seq, grant.epoch) for seq in range(4)]
    assert answer == t.Done(1, at[3], None, False)
    assert await house.log(grant.tx) == (
        UpdateEntry(at[1], b"all"),
        UpdateEntry(at[2], b"ann", ANN),
        RefusalEntry(at[3], BOB, 7, "forbidden", "not you"),
    )
    assert await house.commit(grant, 1) == t.Done(2, at[3], None, False)


async def test_bytes_are_kept_as_they_are(house: House) -> None:
    grant = await house.run(fields=bytes(range(256)))
    data = bytes(range(256)) * 300
    await house.write(grant, 0, data)
    (entry,) = await house.log(grant.tx)
    assert isinstance(entry, UpdateEntry)
    assert entry.data == data
    assert (await house.loaded(grant)).snapshot.fields == bytes(range(256))


@covers("commit", "snapshot", "view", "named", "counted", "noted")
async def test_all_that_a_turn_can_leave(house: House) -> None:
    grant = await house.run()
    await house.commit(
        grant, entries=(t.NewUpdate(b"u"),), snapshot=b'{"n":1}', version=2, view=b"view",
        names=(("a", b"\x00"), ("b", b"2")), attempts=2, run_returned=True, passes=3, note="1-2",
    )
    head = Cursor(1, grant.epoch)
    after = await house.loaded(grant)
    assert after == t.Loaded(
        number=1, head=head, snapshot=t.Snapshot(2, b'{"n":1}', 1, head), view_head=head,
        names={"a": b"\x00", "b": b"2"}, run_returned=True, passes=3, attempts=2, crashes=0, cancel=None,
        keep_updates=1_000, noted=InboxId("1-2"), timers={}, children=(), parent=None, lineage="Demo",
        elapsed_ms=after.elapsed_ms,
    )
    assert 0 <= after.elapsed_ms < 60_000
    await house.commit(grant, 1, note="", run_returned=False, attempts=0)
    after = await house.loaded(grant)
    assert (after.noted, after.run_returned, after.attempts, after.passes) == (None, False, 0, 3)


@covers("commit", "forgotten")
async def test_names_are_forgotten(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, names=(("a", b"1"), ("b", b"2")))
    await house.commit(grant, 1, names=(("c", b"3"),), forgotten=("a", "never there"))
    assert (await house.loaded(grant)).names == {"b": b"2", "c": b"3"}


@covers("commit", "progressed")
async def test_progress_sets_the_counts_back(house: House) -> None:
    grant = await house.run()
    await house.expire_lease(grant.tx)
    await house.due(grant.tx)
    grant = await house.claim_one(grant.tx)
    await house.commit(grant, attempts=1)
    before = await house.loaded(grant)
    await house.write(grant, 1, b"a bare update is no progress")
    assert (before.attempts, before.crashes) == (1, 1) == (
        (after := await house.loaded(grant)).attempts, after.crashes
    )
    await house.commit(grant, 2, progressed=True)
    assert ((after := await house.loaded(grant)).attempts, after.crashes) == (0, 0)


async def test_the_newest_few_snapshots_are_kept(house: House) -> None:
    grant = await house.run()
    for number in range(6):
        await house.commit(grant, number, snapshot=b"%d" % number)
    assert (await house.loaded(grant)).snapshot.fields == b"5"
    assert await house.redis.xlen(house.store.keys.transaction(grant.tx) + ":snap") == 3


async def test_a_snapshot_of_another_version_moves_to_another_ready_set(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, snapshot=b"{}", version=2)
    await house.store.release(grant.tx, grant.epoch, 1, None, idle=False)
    assert not await house.is_ready(grant.tx)
    newer = t.Spec(SPEC.queue, SPEC.state, 2)
    assert await house.is_ready(grant.tx, newer)
    assert (await house.claim(grant.tx, specs=[newer]))[0].spec == newer


@covers("commit", "consumed")
async def test_messages_are_consumed(house: House) -> None:
    grant = await house.run()
    for mid in (1, 2):
        await house.send(grant.tx, mid)
    await house.store.append(grant.tx, t.NewMessage(b"no session"))
    first, second, third = (await house.work(grant.tx)).incoming
    assert (await house.session(grant.tx))["n"] == b"2"
    assert (await house.commit(grant, consumed=(first.id, third.id))) == t.Done(1, Cursor(0, Epoch("")), None, True)
    assert [message.id for message in (await house.work(grant.tx)).incoming] == [second.id]
    assert (await house.session(grant.tx))["n"] == b"1"
    assert (await house.commit(grant, 1, consumed=(second.id,))).unread is False  # type: ignore[union-attr]
    assert await house.session(grant.tx) == {"m": b"2"}


# ---- sessions


@covers("commit", "told", "told gone, forgotten")
async def test_what_the_state_was_told(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    assert (await house.work(grant.tx)).changes == (t.SessionChange(ANN, str(place()), None, None),)
    await house.commit(grant, told=((ANN, str(place())),))
    assert (await house.work(grant.tx)).changes == ()
    await house.store.detach(grant.tx, ANN, place())
    await house.commit(grant, 1, told=((ANN, ""),))
    work = await house.work(grant.tx)
    assert (work.changes, work.next_change_ms) == ((), None)
    assert await house.session(grant.tx) == {}


@covers("commit", "told gone, remembered")
async def test_a_session_with_messages_is_remembered_as_told_gone(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.send(grant.tx, 1)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.detach(grant.tx, ANN, place())
    await house.commit(grant, 1, told=((ANN, ""),))
    assert (await house.work(grant.tx)).told == {ANN: ""}
    await house.attach(grant.tx, at=place("e2"))
    assert (await house.work(grant.tx)).changes == (t.SessionChange(ANN, "e2/c1/1", "", None),)


@covers("commit", "told, changed since")
async def test_a_session_that_moved_on_while_the_state_was_told(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.attach(grant.tx, at=place("e2"))
    await house.commit(grant, told=((ANN, str(place())),))
    assert (await house.work(grant.tx)).changes == (t.SessionChange(ANN, "e2/c1/1", str(place()), None),)


async def test_a_session_that_left_while_the_state_was_told(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.store.detach(grant.tx, ANN, place())
    assert await house.session(grant.tx) == {}
    await house.commit(grant, told=((ANN, str(place())),))
    work = await house.work(grant.tx)
    assert work.changes == ()
    assert work.next_change_ms is not None, "after the grace"
    await house.forget_times(grant.tx, ":changes")
    assert (await house.work(grant.tx)).changes == (t.SessionChange(ANN, "", str(place()), None),)
    await house.commit(grant, 1, told=((ANN, ""),))
    assert await house.session(grant.tx) == {}


async def test_a_session_that_came_back_while_the_state_was_told_that_it_left(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.commit(grant, told=((ANN, str(place())),))
    await house.store.detach(grant.tx, ANN, place())
    await house.attach(grant.tx, at=place("e2"))
    await house.commit(grant, 1, told=((ANN, ""),))
    assert (await house.work(grant.tx)).changes == (t.SessionChange(ANN, "e2/c1/1", "", None),)


@covers("commit", "barred")
async def test_a_barred_session_has_no_place_and_no_changes(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    await house.attach(grant.tx, BOB)
    await house.commit(grant, told=((ANN, str(place())),), barred=((ANN, "not you"), ("nobody", "nor you")))
    rows, total = await house.store.sessions(grant.tx)
    assert ([row.session for row in rows], total) == ([BOB], 1)
    assert [change.session for change in (await house.work(grant.tx)).changes] == [BOB]
    assert not await house.store.detach(grant.tx, ANN, place())
    assert await house.session(grant.tx) == {"b": b"not you"}
    await house.commit(grant, 1, barred=((BOB, "nor you"),))
    assert (await house.work(grant.tx)).changes == (), "of a barred one nothing is told"


# ---- leases


@covers("commit", "lease", "held for longer")
async def test_a_commit_extends_the_lease(house: House) -> None:
    grant = await house.run()
    before = await house.due_members(grant.tx)
    await house.commit(grant, lease_ms=2 * LEASE_MS)
    after = await house.due_members(grant.tx)
    assert after.keys() == before.keys()
    assert max(after.values()) - max(before.values()) >= LEASE_MS


async def test_a_commit_without_a_lease_leaves_it(house: House) -> None:
    grant = await house.run()
    before = await house.due_members(grant.tx)
    await house.write(grant, 0, b"u")
    assert await house.due_members(grant.tx) == before


@covers("commit", "taken back")
async def test_a_commit_takes_back_what_due_made_ready(house: House) -> None:
    grant = await house.run()
    await house.expire_lease(grant.tx)
    await house.due(grant.tx)
    await house.write(grant, 0, b"alive")
    assert not await house.is_ready(grant.tx)
    assert set(await house.due_members(grant.tx)) == {f"l:{grant.tx}".encode()}, "or nobody would see it crash now"
    await house.due(grant.tx)
    assert await house.is_ready(grant.tx)
    await house.commit(grant, 1, lease_ms=LEASE_MS)
    await house.due(grant.tx)
    assert not await house.is_ready(grant.tx)


# ---- the end


@covers("commit", "ended")
@covers("lib/ending", "unread refused", "never again")
async def test_the_end_is_the_last_of_three(house: House) -> None:
    grant = await house.run()
    await house.attach(grant.tx)
    for mid in (1, 2, 3):
        await house.send(grant.tx, mid)
    await house.send(grant.tx, 1, BOB)
    await house.store.append(grant.tx, t.NewMessage(b"no session"))
    await house.store.append(grant.tx, t.NewMessage(b"a session, and no number", ANN))
    first = (await house.work(grant.tx)).incoming[0]
    answer = await house.commit(
        grant, entries=(t.NewUpdate(b"last"),), consumed=(first.id,), names=(("a", b"1"),),
        end=t.NewEnd("finished", b"result"),
    )
    assert isinstance(answer, t.Done)
    assert (answer.number, answer.head.seq, answer.unread) == (1, 5, False)

    update, *refusals, end = await house.log(grant.tx)
    assert update == UpdateEntry(Cursor(1, grant.epoch), b"last")
    told = [(one.session, one.mid, one.code) for one in refusals if isinstance(one, RefusalEntry)]
    assert told == [(ANN, 2, "ended"), (ANN, 3, "ended"), (BOB, 1, "ended")]
    assert end == EndEntry(answer.head, "finished", b"result")

    transaction = await house.store.get(grant.tx)
    assert transaction is not None
    assert transaction.ended_ms is not None
    assert (transaction.status, transaction.result, transaction.error) == ("finished", b"result", None)
    assert set(await house.due_members(grant.tx)) == {f"r:{grant.tx}".encode()}
    key = house.store.keys.transaction(grant.tx).encode()
    kept = {name.removeprefix(key) for name in await house.keyspace() if name.startswith(key)}
    assert kept == {b"", b":log", b":sess"}
    assert not await house.redis.hexists(house.store.keys.transaction(grant.tx), "lease")


async def test_what_the_end_decides_by_itself_stands_under_an_epoch_of_its_own(house: House) -> None:
    """The same end again, after a rewind that lost it and a message with it, is another history."""
    grant = await house.run()
    await house.send(grant.tx, 1)
    then = await house.keyspace()
    await house.send(grant.tx, 2)
    await house.write(grant, 0, b"u")
    after_update = await house.keyspace()
    await house.end(grant, 1)
    lost = await house.log(grant.tx)
    await house.rewind(then)
    await house.write(grant, 0, b"u")
    await house.end(grant, 1)
    kept = await house.log(grant.tx)
    assert [one.cursor for one in lost[:1]] == [one.cursor for one in kept[:1]]
    assert {one.cursor for one in lost[1:]}.isdisjoint(one.cursor for one in kept[1:])
    assert after_update != then


async def test_a_failed_one_keeps_what_a_retry_needs(house: House) -> None:
    grant = await house.run()
    await house.commit(grant, names=(("a", b"1"),))
    await house.commit(grant, 1, end=t.NewEnd("failed", error=Failure("ValueError", "no"), trace="Traceback ..."))
    (end,) = await house.log(grant.tx)
    assert isinstance(end, EndEntry)
    assert (end.status, end.error) == ("failed", Failure("ValueError", "no"))
    transaction = await house.store.get(grant.tx)
    assert transaction is not None
    assert (transaction.error, transaction.trace) == (Failure("ValueError", "no"), "Traceback ...")
    key = house.store.keys.transaction(grant.tx).encode()
    assert {key + b":snap", key + b":names"} <= set(await house.keyspace())


@covers("commit", "cancelled")
async def test_any_end_after_a_cancel_is_a_cancel(house: House) -> None:
    for status in ("finished", "failed", "cancelled"):
        grant = await house.run()
        await house.store.cancel(grant.tx, "why")
        error = Failure("ValueError", "no") if status == "failed" else None
        await house.commit(grant, end=t.NewEnd(status, b"result", error))
        (end,) = await house.log(grant.tx)
        assert isinstance(end, EndEntry)
        assert (end.status, end.result, end.error) == ("cancelled", None, None)
        transaction = await house.store.get(grant.tx)
        assert transaction is not None
        assert (transaction.status, transaction.result, transaction.error) == ("cancelled", None, None)
        assert transaction.cancel_reason == "why"


async def test_nothing_comes_after_the_end(house: House) -> None:
    grant = await house.run()
    await house.end(grant)
    assert await house.refused(house.commit(grant, 1, entries=(t.NewUpdate(b"late"),))) == t.Fenced()
    assert await house.claim(grant.tx, "w2") == ()


async def test_many_unread_messages_are_all_refused(house: House) -> None:
    grant = await house.run()
    for mid in range(1, 31):
        await house.send(grant.tx, mid)
    await house.end(grant)
    *refusals, _ = await house.log(grant.tx)
    assert [one.mid for one in refusals if isinstance(one, RefusalEntry)] == list(range(1, 31))


# ---- announcements


async def test_each_commit_is_announced_with_its_predecessor(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house, grant.tx)
    first = await house.commit(grant, entries=(t.NewUpdate(b"\xff\x00", ANN), t.NewRefusal(BOB, 1, "code", "text")))
    await house.commit(grant, 1, snapshot=b"{}")
    await house.send(grant.tx, 1)
    last = await house.end(grant, 2, "failed")
    assert isinstance(first, t.Done)
    start, log = Cursor(0, Epoch("")), await house.log(grant.tx)
    assert await heard.live() == [
        LiveMessage(1, grant.epoch, 0, start, log[:2], first.head, "running"),
        LiveMessage(2, grant.epoch, 1, first.head, (), first.head, "running"),
        LiveMessage(3, grant.epoch, 2, first.head, log[2:], last.head, "failed"),
    ]
    await heard.close()


async def test_a_large_commit_is_announced_whole(house: House) -> None:
    grant = await house.run()
    heard = await Heard.of(house, grant.tx)
    await house.write(grant, 0, *(b"%d" % i * 100 for i in range(300)), b"x" * 70_000)
    (message,) = await heard.live()
    assert message.entries == await house.log(grant.tx)
    await heard.close()


@covers("recent", "recent")
async def test_commits_are_noted_in_the_recent_set(house: House) -> None:
    grant, quiet = await house.run(), await house.run()
    partition = house.store.partition_of(grant.tx)
    before, _ = await house.store.changed_since(partition, 0)
    await house.write(grant, 0, b"u")
    now, changed = await house.store.changed_since(partition, before)
    assert changed == {grant.tx: 1}
    assert quiet.tx not in changed
    assert now >= before
    assert (await house.store.changed_since(partition, now + 60_000))[1] == {}


# ---- trimming


async def fill(house: House, grant: t.Grant, updates: int, **first: object) -> None:
    """One commit with what `first` says, then one update a commit."""
    await house.commit(grant, 0, entries=(t.NewUpdate(b"0"),), **first)
    for number in range(1, updates):
        await house.write(grant, number, b"%d" % number)


async def trimmed(house: House, grant: t.Grant) -> bytes | None:
    meta: dict[bytes, bytes] = await house.redis.hgetall(house.store.keys.transaction(grant.tx))
    return meta.get(b"trimmed")


@covers("lib/log", "short enough")
async def test_a_log_a_little_over_its_size_is_left(house: House) -> None:
    grant = await house.run(keep_updates=10)
    await fill(house, grant, 25)
    await house.commit(grant, 25, entries=(t.NewUpdate(b"u"),), snapshot=b"{}")
    assert len(await house.log(grant.tx)) == 26
    assert await trimmed(house, grant) is None


@covers("commit", "trimmed")
async def test_a_log_is_trimmed_to_its_size(house: House) -> None:
    grant = await house.run(keep_updates=10)
    await fill(house, grant, 26)
    done = await house.commit(grant, 26, entries=(t.NewUpdate(b"u"),), snapshot=b"{}")
    assert isinstance(done, t.Done)
    assert done.head.seq == 27
    assert await trimmed(house, grant) == str(Cursor(17, grant.epoch)).encode()
    entries = await house.log(grant.tx, Cursor(17, grant.epoch))
    assert [one.cursor.seq for one in entries] == list(range(18, 28))


@covers("lib/log", "nothing to spare")
async def test_nothing_newer_than_the_newest_snapshot_is_trimmed(house: House) -> None:
    grant = await house.run(keep_updates=10)
    await house.write(grant, 0, *(b"u" for _ in range(40)))
    assert len(await house.log(grant.tx)) == 40
    await house.commit(grant, 1, entries=(t.NewUpdate(b"u"),), snapshot=b"{}")
    assert await trimmed(house, grant) == str(Cursor(31, grant.epoch)).encode()


async def test_a_snapshot_of_an_earlier_commit_bounds_the_trimming(house: House) -> None:
    grant = await house.run(keep_updates=10)
    await fill(house, grant, 12)
    await house.commit(grant, 12, snapshot=b"{}")
    for number in range(13, 40):
        await house.write(grant, number, b"u")
    assert await trimmed(house, grant) == str(Cursor(12, grant.epoch)).encode()


async def test_nothing_newer_than_the_newest_view_is_trimmed(house: House) -> None:
    grant = await house.run(keep_updates=10)
    await fill(house, grant, 5)
    await house.commit(grant, 5, view=b"view")
    for number in range(6, 30):
        await house.commit(grant, number, entries=(t.NewUpdate(b"u"),), snapshot=b"{}")
    assert await trimmed(house, grant) == str(Cursor(5, grant.epoch)).encode()


async def test_the_newest_entry_is_never_trimmed(house: House) -> None:
    grant = await house.run(keep_updates=1)
    done = await house.commit(grant, 0, entries=tuple(t.NewUpdate(b"u") for _ in range(40)), snapshot=b"{}", view=b"v")
    assert isinstance(done, t.Done)
    assert await trimmed(house, grant) == str(Cursor(39, grant.epoch)).encode()
    assert [one.cursor for one in await house.log(grant.tx, Cursor(39, grant.epoch))] == [done.head]
