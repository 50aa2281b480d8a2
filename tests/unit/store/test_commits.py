from __future__ import annotations

from dataclasses import replace

from orbit.protocol.entries import Failure
from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId
from orbit.store import types as t
from orbit.store.commits import encode

ANN = PublicName("ann")
EMPTY = t.Commit(TxId("tx"), Epoch("1"), 4)
FULL = t.Commit(
    TxId("tx"), Epoch("1"), 4, (t.NewUpdate(b"u", ANN), t.NewRefusal(ANN, 2, "code", "text")), b"{}", 3, b"view",
    (("a", b"1"), ("b", b"2")), ("c",), (InboxId("1-2"), InboxId("2-3")), ((ANN, "e/c/1"),), ((ANN, "why"),), True, 5,
    False, 6, "1-2", (("t/1/a", 50),), ("s/b",), (("s/child/key", b"start"),), ("s/other/key",),
    t.NewEnd("failed", None, Failure("E", "m"), "trace"), 10_000,
)


def test_nothing_but_the_grant() -> None:
    assert encode(EMPTY, 3, 5_000) == [
        "tx", "1", 4, 0, 3, 5_000, b"", 1, b"", "", "", "", "", "", "", "", "", "", "", *[0] * 10
    ]


def test_all_of_it_as_commit_lua_reads_it() -> None:
    assert encode(FULL, 3, 5_000) == [
        "tx", "1", 4, 10_000, 3, 5_000, b"{}", 3, b"view", "1", 5, 0, 6, "=1-2", "failed", b"", "E", "m", "trace",
        2, "u", "ann", "", "", "", b"u", "r", "ann", 2, "code", "text", b"",
        2, "1-2", "2-3", 2, "a", b"1", "b", b"2", 1, "c", 1, "ann", "e/c/1", 1, "ann", "why",
        1, "t/1/a", 50, 1, "s/b", 1, "s/child/key", b"start", 1, "s/other/key",
    ]


def test_an_equal_commit_sends_the_same_bytes() -> None:
    assert encode(replace(FULL), 3, 5_000) == encode(FULL, 3, 5_000)


def test_no_note_is_another_thing_than_to_leave_it() -> None:
    assert encode(replace(EMPTY, note=""), 3, 5_000)[13] == "="
