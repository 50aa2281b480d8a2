"""Raw replies into values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgpack

from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import EndEntry, Entry, Failure, LiveMessage, LogPage, LogReset, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Epoch, InboxId, PublicName, TxId
from orbit.store import types as t

Raw = Sequence[Any]


def text(raw: bytes | None) -> str:
    return raw.decode() if raw is not None else ""


def optional(raw: bytes | None) -> str | None:
    return raw.decode() if raw is not None else None


def status(raw: bytes) -> t.Status:
    return cast(t.Status, raw.decode())


def cursor(raw: bytes) -> Cursor:
    """A stream id, or `0`, as the scripts wrote it."""
    if raw == b"0":
        return START
    seq, _, epoch = raw.decode().partition("-")
    return Cursor(int(seq), Epoch(epoch))


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A flat list of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """One entry of a log. Absent fields and empty ones are the same."""
    where, kind = cursor(entry_id), fields[b"k"]
    session = fields.get(b"s", b"")
    if kind == b"u":
        return UpdateEntry(where, fields[b"d"], PublicName(session.decode()) if session else None)
    if kind == b"r":
        return RefusalEntry(
            where, PublicName(session.decode()), int(fields[b"m"]), text(fields.get(b"c")), text(fields.get(b"t"))
        )
    return EndEntry(where, text(fields[b"c"]), fields.get(b"d") or None, failure(fields.get(b"y"), fields.get(b"t")))


def failure(kind: bytes | None, message: bytes | None) -> Failure | None:
    return Failure(kind.decode(), text(message)) if kind else None


_LIVE_FIELDS = (b"s", b"m", b"c", b"t", b"y", b"d")


def live(payload: bytes) -> LiveMessage:
    """What `publish` of lib/log packed."""
    number, epoch, before_number, before, head, state, raw = msgpack.unpackb(payload)
    entries = tuple(
        entry(item[7], {b"k": item[0], **dict(zip(_LIVE_FIELDS, item[1:7], strict=True))}) for item in raw
    )
    return LiveMessage(
        int(number), Epoch(epoch.decode()), int(before_number), cursor(before), entries, cursor(head), state.decode()
    )


def log(reply: Raw) -> LogPage | LogReset | t.Missing:
    kind = reply[0]
    if kind == b"missing":
        return t.Missing()
    number, head, state = int(reply[1]), cursor(reply[2]), reply[3].decode()
    if kind == b"page":
        entries = tuple(entry(item[0], pairs(item[1])) for item in reply[4])
        return LogPage(entries, number, head, state, reply[5] == b"1")
    return LogReset(cursor(reply[5]), reply[4].decode(), reply[6], number, head, state)


def inbox_entry(raw: Raw) -> t.InboxEntry:
    fields = pairs(raw[1])
    session, mid = fields.get(b"s"), fields.get(b"m")
    return t.InboxEntry(
        id=InboxId(raw[0].decode()),
        session=PublicName(session.decode()) if session else None,
        mid=int(mid) if mid else None,
        subject=optional(fields.get(b"u")),
        place=text(fields.get(b"p")),
        data=fields[b"d"],
    )


def _incoming(raw: Raw) -> t.Incoming:
    fields = pairs(raw[1])
    match fields.get(b"k"):
        case b"t":
            return t.FiredTimer(InboxId(raw[0].decode()), fields[b"f"].decode())
        case b"c":
            return t.ChildEnd(InboxId(raw[0].decode()), fields[b"f"].decode(), packed_outcome(fields[b"d"]))
    return inbox_entry(raw)


def pack_outcome(ended: t.Outcome) -> bytes:
    """An outcome as it stands in a parent's inbox."""
    error = (ended.error.type, ended.error.message) if ended.error else None
    packed: bytes = msgpack.packb((ended.status, ended.result, error))
    return packed


def packed_outcome(packed: bytes) -> t.Outcome:
    state, result, error = msgpack.unpackb(packed)
    return t.Outcome(state, result, Failure(*error) if error else None)


def outcome(state: bytes, result: bytes | None, kind: bytes | None, message: bytes | None) -> t.Outcome:
    return t.Outcome(status(state), result or None, failure(kind, message))


def parent(raw: bytes | None) -> t.Parent | None:
    """As `parent_text` writes it."""
    tx, _, key = text(raw).partition(" ")
    return t.Parent(TxId(tx), key) if tx else None


def parent_text(one: t.Parent | None) -> str:
    return f"{one.tx} {one.key}" if one else ""


def work(reply: Raw) -> t.Work | t.Missing:
    if reply[0] == b"missing":
        return t.Missing()
    number, epoch, cancel, messages, more, changes, next_change, told, lost = reply[1:]
    return t.Work(
        number=int(number),
        epoch=Epoch(epoch.decode()),
        cancel=optional(cancel),
        incoming=tuple(map(_incoming, messages)),
        more=more == b"1",
        changes=tuple(
            t.SessionChange(PublicName(name.decode()), text(place), optional(known), optional(subject))
            for name, place, known, subject in changes
        ),
        next_change_ms=int(next_change) if next_change is not None else None,
        told={PublicName(name.decode()): optional(known) for name, known in told},
        lost=lost == b"1",
    )


def grant(raw: Raw) -> t.Grant:
    tx, epoch, number, queue, state, version, crashed, crashes = (item.decode() for item in raw[:8])
    spec = t.Spec(queue, state, int(version))
    found = raw[8] if len(raw) > 8 else None
    return t.Grant(
        TxId(tx), Epoch(epoch), int(number), spec, crashed == "1", int(crashes),
        loaded=_loaded(found) if found else None, quiet=found is not None and raw[9] != b"1",
    )  # fmt: skip


def loaded(reply: Raw) -> t.Loaded | t.Fenced | t.Vanished:
    if reply[0] == b"vanished":
        return t.Vanished()
    if reply[0] == b"fenced":
        return t.Fenced()
    return _loaded(reply[1])


def _loaded(raw: Raw) -> t.Loaded:
    number, head, returned, passes, attempts, crashes, cancel, keep, note, of, lineage, priority, _ = raw[0]
    snapshot_id, snapshot = raw[1][0], pairs(raw[1][1])
    return t.Loaded(
        number=int(number),
        head=cursor(head),
        snapshot=t.Snapshot(
            int(snapshot[b"v"]), snapshot[b"f"], int(snapshot_id.partition(b"-")[0]), cursor(snapshot[b"h"])
        ),
        view_head=cursor(raw[2]) if raw[2] is not None else None,
        names={name.decode(): value for name, value in pairs(raw[3]).items()},
        run_returned=returned == b"1",
        passes=int(passes),
        attempts=int(attempts),
        crashes=int(crashes),
        cancel=optional(cancel),
        keep_updates=int(keep),
        noted=InboxId(note.decode()) if note else None,
        timers={name.decode(): int(ms) if int(ms) >= 0 else None for name, ms in pairs(raw[4]).items()},
        children=tuple(field for field in map(text, raw[5]) if field.startswith("s/")),
        parent=parent(of),
        lineage=text(lineage),
        elapsed_ms=int(raw[6]),
        priority=int(priority),
    )


def committed(reply: Raw) -> t.CommitAnswer:
    kind = reply[0]
    if kind == b"vanished":
        return t.Vanished()
    if kind == b"fenced":
        return t.Fenced()
    if kind == b"rewound":
        return t.Rewound()
    answer = t.Done if kind == b"done" else t.Repeated
    return answer(int(reply[1]), cursor(reply[2]), optional(reply[3]), reply[4] > 0)


def transaction(tx: bytes, meta: dict[bytes, bytes]) -> t.Transaction:
    def moment(name: bytes) -> int | None:
        return int(meta[name]) if name in meta else None

    of = parent(meta.get(b"parent"))
    return t.Transaction(
        tx=TxId(tx.decode()),
        state=text(meta[b"state"]),
        version=int(meta[b"version"]),
        queue=text(meta[b"queue"]),
        status=status(meta[b"status"]),
        created_ms=int(meta[b"created"]),
        started_ms=moment(b"started"),
        ended_ms=moment(b"ended"),
        head=cursor(meta[b"head"]),
        number=int(meta[b"number"]),
        epoch=Epoch(text(meta[b"epoch"])),
        owner=text(meta[b"owner"]),
        attempts=int(meta[b"attempts"]),
        crashes=int(meta[b"crashes"]),
        result=meta.get(b"result") or None,
        error=failure(meta.get(b"error_type"), meta.get(b"error_message")),
        trace=text(meta.get(b"trace")) or None,
        cancel_reason=optional(meta.get(b"cancel")),
        waits=text(meta.get(b"waits")) or None,
        parent=of.tx if of else None,
        parent_key=of.key if of else None,
    )


def outbox(reply: Raw) -> t.Outbox | t.Missing:
    if reply[0] == b"missing":
        return t.Missing()
    number, state, result, kind, message, of, raw = reply[1:]
    fields = tuple(map(text, raw))
    return t.Outbox(
        number=int(number),
        outcome=outcome(state, result, kind, message),
        parent=parent(of),
        children=tuple(field for field in fields if field.startswith("s/")),
        cancels="x" in fields,
        fields=fields,
    )


def due(reply: Raw) -> t.DueAnswer:
    now, next_ms, done, removable, undelivered, fires, admitted = reply
    return t.DueAnswer(
        now_ms=int(now),
        next_ms=int(next_ms) if next_ms != b"-1" else None,
        done=done,
        removable=ids(removable),
        undelivered=ids(undelivered),
        fires=tuple((name.decode(), int(at)) for name, at in fires),
        admitted=tuple((name.decode(), TxId(tx.decode())) for name, tx in admitted),
    )


def ids(raw: Raw) -> tuple[TxId, ...]:
    return tuple(TxId(one.decode()) for one in raw)


def wake(partition: int, payload: bytes) -> t.ReadyWake | t.DueWake:
    """What lib/wake publishes on a partition's wake channel."""
    words = payload.decode().split(" ")
    if words[0] == "due":
        return t.DueWake(partition, int(words[1]))
    return t.ReadyWake(partition, t.Spec(words[1], words[2], int(words[3])))


def nudge(payload: bytes) -> t.OwnerNudge:
    why, _, tx = payload.decode().partition(" ")
    return t.OwnerNudge(TxId(tx), why)
