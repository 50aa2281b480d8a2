from __future__ import annotations

import msgpack

from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import EndEntry, Failure, LiveMessage, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId
from orbit.store import decode
from orbit.store import types as t

EPOCH = Epoch("1700000000000000123")
AT = f"7-{EPOCH}".encode()
HERE = Cursor(7, EPOCH)


def test_cursors() -> None:
    assert decode.cursor(b"0") == START
    assert decode.cursor(AT) == HERE
    assert str(decode.cursor(AT)).encode() == AT


def test_entries() -> None:
    ann = PublicName("ann")
    assert decode.entry(AT, {b"k": b"u", b"d": b"\xff"}) == UpdateEntry(HERE, b"\xff")
    assert decode.entry(AT, {b"k": b"u", b"d": b"x", b"s": b"ann"}) == UpdateEntry(HERE, b"x", ann)
    refused = {b"k": b"r", b"s": b"ann", b"m": b"12", b"c": b"state_error", b"t": "é".encode()}
    assert decode.entry(AT, refused) == RefusalEntry(HERE, ann, 12, "state_error", "é")
    assert decode.entry(AT, {b"k": b"e", b"c": b"finished", b"d": b"r"}) == EndEntry(HERE, "finished", b"r")
    failed = {b"k": b"e", b"c": b"failed", b"y": b"ValueError", b"d": b"", b"t": b""}
    assert decode.entry(AT, failed) == EndEntry(HERE, "failed", None, Failure("ValueError", ""))


def test_a_live_message() -> None:
    entries = [[b"u", b"", b"", b"", b"", b"", b"data", AT]]
    payload = msgpack.packb([b"3", EPOCH.encode(), b"2", b"0", AT, b"running", entries])
    assert decode.live(payload) == LiveMessage(3, EPOCH, 2, START, (UpdateEntry(HERE, b"data"),), HERE, "running")
    payload = msgpack.packb([b"3", EPOCH.encode(), b"2", AT, AT, b"idle", []])
    assert decode.live(payload).entries == ()


def test_announcements() -> None:
    assert decode.wake(5, b"due 1500") == t.DueWake(5, 1500)
    assert decode.wake(5, b"ready q Name.of-State 2") == t.ReadyWake(5, t.Spec("q", "Name.of-State", 2))
    assert decode.nudge(b"message transaction-1") == t.OwnerNudge(TxId("transaction-1"), "message")


def test_places() -> None:
    place = t.Place("edge", "connection", "2")
    assert t.Place.parse(str(place)) == place
    assert t.Place.parse("") is None


def test_an_inbox_entry() -> None:
    raw = [b"1-2", [b"d", b"data", b"p", b"e/c/1", b"m", b"3", b"s", b"ann", b"u", b"subject"]]
    assert decode.inbox_entry(raw) == t.InboxEntry(InboxId("1-2"), PublicName("ann"), 3, "subject", "e/c/1", b"data")
    assert decode.inbox_entry([b"1-2", [b"d", b""]]) == t.InboxEntry(InboxId("1-2"), None, None, None, "", b"")
