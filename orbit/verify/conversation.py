"""Judges what a client saw: gaps, repeats, reorders, misused cursors, missing answers, lost or doubled messages.

`check_trace` takes one client's trace and, for the transactions whose logs are known, what each of its sessions should
have seen. What the logs themselves must be is in `orbit.verify.logs`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orbit.verify.trace import Event, Finding, LogEntry, Message, Trace, entry_of, epoch_of, seq_of

ENTRIES = frozenset({"update", "reset", "advance", "end"})
STATUSES = frozenset({"pending", "running", "idle", "finished", "failed", "cancelled"})
CODES = frozenset(
    {"bad_request", "unauthorized", "forbidden", "not_found", "conflict", "gone", "too_large", "rate_limited"}
    | {"overloaded", "unavailable", "out_of_order", "replaced", "ended", "state_error", "internal"}
)


@dataclass(slots=True)
class Following:
    """One transaction as one client follows it: what the checker knows at a point of the trace.

    `log` is all that its session should see, `places` where each entry stands there, `kept` every cursor of the
    transaction's log, also of what is for others. `cursor` is the place the client holds; `asked` the attaches without
    an answer, `attached` whether entries may come; `reset_due` the cursor that a reset must carry now.
    """

    tx: str
    log: Sequence[LogEntry] | None
    kept: Collection[str] = ()
    places: dict[str, int] = field(default_factory=dict)
    cursor: str = "0"
    known: set[str] = field(default_factory=lambda: {"0", "$"})
    seen: set[str] = field(default_factory=set)
    index: int = 0
    asked: deque[Message] = field(default_factory=deque)
    attached: bool = False
    attached_before: bool = False
    detached: bool = False
    reset_due: str | None = None
    mids_lost: bool = False
    over: bool = False
    session: str | None = None
    sends: Counter[int] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    copies: Counter[int] = field(default_factory=Counter)
    stored: set[int] = field(default_factory=set)
    receipted: set[int] = field(default_factory=set)
    base_mid: int = 0
    rewound: list[str] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


class TraceChecker:
    """Walks over one trace; see `check_trace`."""

    def __init__(
        self,
        trace: Trace,
        logs: Mapping[str, Sequence[LogEntry]],
        *,
        resets: Collection[str],
        kept: Mapping[str, Collection[str]],
    ) -> None:
        self.trace = trace
        self.logs = logs
        self.resets = resets
        self.kept = kept
        self.rewinds = "rewound" in resets
        self.txs: dict[str, Following] = {}
        self.found: list[Finding] = []
        self.pings: deque[Any] = deque()
        self.open = False
        self.event = Event(0, 0, "open", {})

    def run(self) -> list[Finding]:
        for event in self.trace.events:
            self.event = event
            match event.what:
                case "open" | "closed":
                    self.open = event.what == "open"
                    self._new_connection()
                case "sent":
                    self._sent(event.message)
                case "got":
                    self._got(event.message)
        if self.open:
            self._check_answered()
        for view in self.txs.values():
            if view.rewound and not view.over:  # who saw an end has left, and can't be told
                self._at_the_end(view.tx, f"saw {view.rewound}, which were lost, and wasn't told")
        return self.found

    def _finding(self, what: str) -> None:
        event = self.event
        text = f"connection {event.conn}: {what}; {event.message}"
        self.found.append(Finding(text, self.trace.name, str(event.message.get("tx", "")), event.at))

    def _at_the_end(self, tx: str, what: str) -> None:
        self.found.append(Finding(what, self.trace.name, tx))

    def _following(self, tx: str) -> Following:
        if tx not in self.txs:
            log = self.logs.get(tx)
            places = {entry.cursor: at for at, entry in enumerate(log or ())}
            self.txs[tx] = Following(tx, log, self.kept.get(tx, ()), places)
        return self.txs[tx]

    def _new_connection(self) -> None:
        self.pings.clear()
        for view in self.txs.values():
            view.asked.clear()
            view.sends.clear()
            view.ops.clear()
            view.attached = view.attached_before = view.detached = False
            view.reset_due = None

    def _check_answered(self) -> None:
        if self.pings:
            self._at_the_end("", f"no pong for {list(self.pings)}")
        for view in self.txs.values():
            for what in (*(f"attach {m}" for m in view.asked), *(+view.ops)):
                self._at_the_end(view.tx, f"no answer to {what}")
            for mid in +view.sends:
                self._at_the_end(view.tx, f"no answer to mid {mid}")
            if view.reset_due is not None:
                self._at_the_end(view.tx, f"attached at {view.reset_due}, without a reset")

    # ---- what the client said

    def _sent(self, message: Message) -> None:
        if message.get("type") == "ping":
            self.pings.append(message.get("nonce"))
        tx = message.get("tx")
        if not isinstance(tx, str):
            return
        view = self._following(tx)
        match message["type"]:
            case "attach":
                if message.get("after", "0") not in view.known:
                    self._finding("the client itself resumed from a cursor that it was never given")
                view.asked.append(message)
                view.attached = False
                view.reset_due = None
            case "send":
                view.sends[message["mid"]] += 1
                view.copies[message["mid"]] += 1
            case "cancel" | "detach" as op:
                view.ops[op] += 1

    # ---- what the edge said

    def _got(self, message: Message) -> None:
        kind = message["type"]
        if kind == "pong":
            if not self.pings or self.pings.popleft() != message.get("nonce"):
                self._finding("a pong that answers no ping")
        elif kind == "goaway":
            if not isinstance(message["reconnect_after_ms"], int):
                self._finding("goaway without a time")
        elif "tx" in message:
            self._got_of(self._following(message["tx"]), message)
        elif kind != "error":
            self._finding("unknown message")

    def _got_of(self, view: Following, message: Message) -> None:
        kind = message["type"]
        if view.reset_due is not None and (kind in ENTRIES or "cursor" in message) and kind != "reset":
            self._finding(f"attached at {view.reset_due} instead of {view.cursor}, and no reset right after it")
            view.reset_due = None
        if kind == "attached":
            self._attached(view, message)
        elif kind in ENTRIES or (kind == "rejected" and "cursor" in message):
            self._entry(view, message)
        elif kind == "receipt":
            self._receipt(view, message)
        elif kind == "rejected":
            self._rejected(view, message)
        elif kind == "error":
            self._error(view, message)
        elif kind in ("cancelled", "detached"):
            self._done(view, kind.removesuffix("led").removesuffix("ed"))
            if kind == "detached":
                view.attached = False
                view.detached = True
        else:
            self._finding("unknown message")

    def _done(self, view: Following, op: str) -> None:
        if view.ops[op] <= 0:
            self._finding(f"an answer to a {op} that wasn't asked")
        view.ops[op] -= 1

    def _attached(self, view: Following, message: Message) -> None:
        if not view.asked:
            self._finding("attached without an attach")
            return
        asked = view.asked.popleft()
        if message["status"] not in STATUSES:
            self._finding("an unknown status")
        if asked.get("session") not in (None, message["session"]):
            self._finding("attached as another session")
        if view.session is None:
            view.session = message["session"]
            view.base_mid = message["last_mid"]
        self._last_mid(view, message["last_mid"])
        after = asked.get("after", "0")
        if view.asked:
            return
        view.attached = view.attached_before = True
        view.detached = False
        if after == "$":
            self._jump(view, message["cursor"])
        elif message["cursor"] != after:
            view.reset_due = message["cursor"]
        else:
            self._move_back(view, after)
        view.known.add(message["cursor"])

    def _jump(self, view: Following, cursor: str) -> None:
        view.cursor = cursor
        view.seen = set()
        if view.log is not None:
            later = [at for at, entry in enumerate(view.log) if _after(entry.cursor, cursor)]
            view.index = later[0] if later else len(view.log)

    def _move_back(self, view: Following, cursor: str) -> None:
        """The client asked for `cursor` and got it: what follows that comes now, also if it was seen before."""
        if cursor != view.cursor:
            self._jump(view, cursor)

    def _last_mid(self, view: Following, last_mid: int) -> None:
        highest = max(view.stored, default=0)
        if last_mid < highest:
            view.mids_lost = True
            if not self.rewinds:
                self._finding(f"last_mid {last_mid} is below the receipt of {highest}")
            view.stored = {mid for mid in view.stored if mid <= last_mid}
            view.receipted &= view.stored
        sent = max(view.copies, default=view.base_mid)
        if last_mid > sent:
            self._finding(f"last_mid {last_mid} is above all mids sent, {sent}")
        view.stored.update(mid for mid in view.copies if mid <= last_mid)

    # ---- entries

    def _entry(self, view: Following, message: Message) -> None:
        if not view.attached:
            if view.over:
                self._finding("an entry after the end")
            elif view.detached or not (view.asked and view.attached_before):
                self._finding("an entry while not attached")
            return
        cursor = message["cursor"]
        if message["type"] == "reset":
            self._reset(view, message)
            return
        if message["type"] == "advance":
            self._advance(view, cursor)
        else:
            self._log_entry(view, message)
        view.cursor = cursor
        view.known.add(cursor)

    def _reset(self, view: Following, message: Message) -> None:
        self._last_mid(view, message["last_mid"])
        if message["reason"] not in self.allowed(view):
            self._finding("a reset")
        if message["reason"] == "rewound" and view.cursor in view.kept and not view.mids_lost:
            self._finding(f"a needless reset: nothing was lost of what the client knows up to {view.cursor}")
        if view.reset_due not in (None, message["cursor"]):
            self._finding(f"a reset to another cursor than attached's, {view.reset_due}")
        if message["reason"] not in ("trimmed", "rewound"):
            self._finding("a reset for an unknown reason")
        view.reset_due = None
        view.mids_lost = False
        view.rewound.clear()
        view.known.add(message["cursor"])
        self._jump(view, message["cursor"])

    def allowed(self, view: Following) -> Collection[str]:
        """For which reasons this transaction may be reset."""
        return self.resets

    def _advance(self, view: Following, cursor: str) -> None:
        if cursor in view.seen or (view.cursor != "0" and not _after(cursor, view.cursor)):
            self._finding(f"advance goes back from {view.cursor}")
        if self.rewinds and view.kept and cursor not in view.kept:
            view.rewound.append(cursor)
            return
        if view.rewound:
            self._finding(f"a history that was lost, {view.rewound}, goes on without a reset")
            view.rewound.clear()
        if view.log is not None and view.index < len(view.log) and not _after(view.log[view.index].cursor, cursor):
            self._finding(f"advance passes over {view.log[view.index]}, which is for this session")

    def _log_entry(self, view: Following, message: Message) -> None:
        entry = entry_of(message)
        assert entry is not None
        if entry.cursor in view.seen:
            self._finding("a repeat")
        elif view.cursor not in ("0", entry.cursor) and not _after(entry.cursor, view.cursor):
            self._finding(f"out of order after {view.cursor}")
        elif epoch_of(entry.cursor) < epoch_of(view.cursor):
            self._finding(f"an older grant wrote after {view.cursor}: two writers")
        view.seen.add(entry.cursor)
        if view.log is not None:
            self._compare(view, entry)
        if entry.kind == "rejected":
            self._refused(view, message)
        if entry.kind == "end":
            view.attached = False
            view.over = True

    def _compare(self, view: Following, entry: LogEntry) -> None:
        assert view.log is not None
        at = view.places.get(entry.cursor)
        if at is None:
            if self.rewinds:
                view.rewound.append(entry.cursor)
            else:
                self._finding("an entry that isn't in the log")
            return
        if view.rewound:
            self._finding(f"a history that was lost, {view.rewound}, goes on without a reset")
            view.rewound.clear()
        if at != view.index:
            missed = [other.cursor for other in view.log[view.index : at]]
            self._finding(f"a gap: missed {missed}" if missed else "a repeat or an entry out of order")
        if view.log[at] != entry:
            self._finding(f"another content than in the log, {view.log[at]}")
        view.index = at + 1

    # ---- answers

    def _answer(self, view: Following, mid: int) -> None:
        if view.sends[mid] <= 0:
            self._finding(f"an answer to mid {mid}, which waits for none")
        view.sends[mid] -= 1

    def _receipt(self, view: Following, message: Message) -> None:
        mid, duplicate = message["mid"], message["duplicate"]
        self._answer(view, mid)
        if not duplicate and mid in view.receipted:
            self._finding(f"mid {mid} was stored twice")
        if duplicate and view.copies[mid] == 1 and mid not in view.stored:
            self._finding(f"the first copy of mid {mid} is called a duplicate")
        if not duplicate:
            view.receipted.add(mid)
        view.stored.add(mid)

    def _refused(self, view: Following, message: Message) -> None:
        mid = message["mid"]
        if not view.copies[mid]:
            self._finding(f"a refusal of mid {mid}, which was never sent")
        if message["code"] not in CODES:
            self._finding("an unknown code")
        view.stored.add(mid)
        view.refused[mid] = message["code"]

    def _rejected(self, view: Following, message: Message) -> None:
        mid = message["mid"]
        self._answer(view, mid)
        if mid in view.stored:
            self._finding(f"mid {mid} is stored, and yet was said not to be")
        if message["code"] == "out_of_order" and not isinstance(message.get("last_mid"), int):
            self._finding("out_of_order without last_mid")
        if message["code"] not in CODES:
            self._finding("an unknown code")

    def _error(self, view: Following, message: Message) -> None:
        op = message.get("op")
        if message["code"] not in CODES:
            self._finding("an unknown code")
        if op == "attach":
            if view.asked:
                view.asked.popleft()
            else:
                self._finding("an answer to an attach that wasn't asked")
        elif op == "send":
            self._answer(view, message["mid"])
        elif op in ("cancel", "detach"):
            self._done(view, op)
        elif op is None:
            view.attached = False
            view.detached = True
        else:
            self._finding("an error for an unknown op")


def _after(cursor: str, other: str) -> bool:
    return seq_of(cursor) > seq_of(other)


def check_trace(
    trace: Trace,
    logs: Mapping[str, Sequence[LogEntry]] | None = None,
    *,
    resets: Collection[str] = (),
    kept: Mapping[str, Collection[str]] | None = None,
) -> list[Finding]:
    """What is wrong with what one client saw.

    Args:
        logs: For each transaction, the whole log as this client's session reads it from the start.
        resets: The reasons for which a reset may come: `trimmed` where a log is trimmed, `rewound` where Redis may have
            lost something.
        kept: For each transaction, every cursor of its log, also of what is for other sessions. An advance to another
            one tells of a history that was lost, as an entry does that isn't in the log. A reset that says
            `rewound` to a client whose cursor is among them, and whose messages are all there, is a finding.
    """
    return TraceChecker(trace, logs or {}, resets=resets, kept=kept or {}).run()
