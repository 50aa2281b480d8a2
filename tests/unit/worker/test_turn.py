from __future__ import annotations

from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId
from orbit.store.types import Commit, NewUpdate
from orbit.worker.turn import NO_FIELDS, Base, Fields, Turn, failed, to_commit

BASE = Base(TxId("t" * 16), Epoch("1" * 19), 7, 3)


def test_an_empty_turn_is_no_commit() -> None:
    assert to_commit(BASE, Turn(), NO_FIELDS, 0) is None


def test_changed_fields_alone_are_a_commit() -> None:
    commit = to_commit(BASE, Turn(), Fields(b"{}", b"{}"), 10_000)
    expected = Commit(BASE.tx, BASE.epoch, 7, snapshot=b"{}", version=3, progressed=True, lease_ms=10_000)
    assert commit == expected


def test_a_snapshot_that_is_only_due_is_no_progress() -> None:
    commit = to_commit(BASE, Turn(), Fields(None, b"{}"), 0)
    assert commit is not None
    assert not commit.progressed


def test_a_bare_update_a_failed_attempt_and_what_was_told_are_no_progress() -> None:
    for turn in (Turn(entries=[NewUpdate(b"x")]), Turn(attempts=1), Turn(told=[(PublicName("p"), "place")])):
        commit = to_commit(BASE, turn, NO_FIELDS, 0)
        assert commit is not None
        assert not commit.progressed


def test_names_answers_and_restarts_are_progress() -> None:
    for turn in (Turn(names={"n": b""}), Turn(consumed=[InboxId("1-1")]), Turn(passes=1)):
        commit = to_commit(BASE, turn, NO_FIELDS, 0)
        assert commit is not None
        assert commit.progressed


def test_the_same_turn_gives_the_same_commit() -> None:
    turns = [Turn(entries=[NewUpdate(b"x")], names={"b": b"1", "a": b"2"}, end=failed("E", "text")) for _ in range(2)]
    one, two = (to_commit(BASE, turn, NO_FIELDS, 5) for turn in turns)
    assert one == two
    assert one is not None
    assert one.names == (("b", b"1"), ("a", b"2"))


def test_what_a_step_must_not_come_after() -> None:
    assert not Turn(consumed=[InboxId("1-1")]).sent
    assert Turn(entries=[NewUpdate(b"x")]).sent
    assert Turn(barred=[(PublicName("p"), "no")]).sent
