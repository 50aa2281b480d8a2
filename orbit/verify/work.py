"""Judges what the workload's own numbers say: they show a gap or a repeat also where a log was trimmed or rewound.

An update of the workload is one of

    {"i": k, ...}                              the k-th update for all
    {"p": k, "to": t, "client": c, ...}        the k-th for the session with the public name t, which is client c's
    {"once": k}                                sent under a name, so once; the k-th of these

and a view is `{"i": k, "once": k, "p": {t: k, ...}}`, all as of its cursor. Updates with `drawn` and `confirmed` carry
what a step returned, before and after: the same, as a step is recorded once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orbit.verify.conversation import Following, TraceChecker
from orbit.verify.trace import Finding, LogEntry, Message, Trace, entry_of, seq_of

HEARSAY_S = 1.0
"""So much later than it is written an entry may be heard first."""


@dataclass(slots=True)
class Numbers:
    """What a client knows of one transaction's numbers; None where a reset left it without."""

    i: int | None = 0
    once: int | None = 0
    p: int | None = 0
    to: str | None = None
    drawn: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """How many updates a transaction's log keeps at least, and how far its log had come when."""

    keep_updates: int
    times: list[float] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)

    def head_at(self, at: float) -> int:
        """The highest seq that anybody had heard of."""
        place = bisect_right(self.times, at)
        return self.heads[place - 1] if place else 0


class WorkChecker(TraceChecker):
    """Beside what a `TraceChecker` does, judges the numbers in updates and views.

    Args:
        rewinds: Whether Redis may have lost something.
        trimmed: The transactions whose logs are trimmed: only they may be reset for that.
    """

    def __init__(
        self,
        trace: Trace,
        logs: Mapping[str, Sequence[LogEntry]],
        *,
        rewinds: bool,
        kept: Mapping[str, Collection[str]],
        trimmed: Mapping[str, Kept],
    ) -> None:
        super().__init__(trace, logs, resets=frozenset({"rewound"} if rewinds else ()), kept=kept)
        self.trimmed = trimmed
        self.numbers: dict[str, Numbers] = defaultdict(Numbers)

    def allowed(self, view: Following) -> Collection[str]:
        return {*self.resets, *({"trimmed"} if view.tx in self.trimmed else ())}

    def _log_entry(self, view: Following, message: Message) -> None:
        super()._log_entry(view, message)
        data = message.get("data")
        if message["type"] == "update" and isinstance(data, dict):
            self._count(self.numbers[view.tx], data)

    def _count(self, numbers: Numbers, data: dict[str, Any]) -> None:
        if "i" in data:
            numbers.i = self._next("update", numbers.i, data["i"])
        if "once" in data:
            numbers.once = self._next("update under a name", numbers.once, data["once"])
        if "p" in data:
            self._private(numbers, data)
        if "drawn" in data:
            numbers.drawn = (data["drawn"], data["token"])
        if "confirmed" in data and numbers.drawn not in (None, (data["confirmed"], data["token"])):
            self._finding(f"a step was recorded twice, first as {numbers.drawn}")

    def _next(self, what: str, held: int | None, got: int) -> int:
        if held is not None and got != held + 1:
            kind = "a gap" if got > held else "a repeat"
            self._finding(f"{kind} by the State's own count: {what} {got} came after {held}")
        return got

    def _private(self, numbers: Numbers, data: dict[str, Any]) -> None:
        if data["client"] != self.trace.name or numbers.to not in (None, data["to"]):
            self._finding(f"a private update for {data['client']} reached {self.trace.name}")
            return
        numbers.to = data["to"]
        numbers.p = self._next("private update", numbers.p, data["p"])

    def _reset(self, view: Following, message: Message) -> None:
        known = self.trimmed.get(view.tx)
        if message["reason"] == "trimmed" and known is not None:
            head = known.head_at(self.event.at + HEARSAY_S)
            if head - seq_of(view.cursor) < known.keep_updates:
                self._finding(f"a needless reset: {view.cursor} can't be trimmed yet, as the log is at {head}")
        super()._reset(view, message)
        before = self.numbers[view.tx]
        shown = message["view"]
        if isinstance(shown, dict):
            to = before.to
            self.numbers[view.tx] = Numbers(shown["i"], shown["once"], shown["p"].get(to, 0) if to else None, to)
        elif seq_of(message["cursor"]) == 0:
            self.numbers[view.tx] = Numbers(to=before.to)
        else:
            self.numbers[view.tx] = Numbers(None, None, None, before.to)


def kept_of(traces: Iterable[Trace], keep: Mapping[str, int]) -> dict[str, Kept]:
    """For each transaction with a short log: when which seq was heard of."""
    heard: dict[str, list[tuple[float, int]]] = {tx: [] for tx in keep}
    for trace in traces:
        for event in trace.events:
            cursor, tx = event.message.get("cursor"), event.message.get("tx")
            if event.what == "got" and isinstance(cursor, str) and tx in heard:
                heard[str(tx)].append((event.at, seq_of(cursor)))
    found = {}
    for tx, pairs in heard.items():
        made = found[tx] = Kept(keep[tx])
        highest = 0
        for at, seq in sorted(pairs):
            highest = max(highest, seq)
            made.times.append(at)
            made.heads.append(highest)
    return found


def check_agreement(traces: Iterable[Trace]) -> list[Finding]:
    """One cursor is one entry, whoever sees it; and what is for one session reaches that session alone."""
    entries: dict[tuple[str, str], LogEntry] = {}
    private: dict[tuple[str, str], str] = {}
    found = []
    for trace in traces:
        for event in trace.events:
            entry = entry_of(event.message) if event.what == "got" else None
            if entry is None:
                continue
            place = (str(event.message["tx"]), entry.cursor)
            if entries.setdefault(place, entry) != entry:
                found.append(Finding(f"{entry} is {entries[place]} to others", trace.name, place[0], event.at))
            one = entry.kind == "rejected" or (isinstance(entry.body, dict) and "p" in entry.body)
            if one and private.setdefault(place, trace.name) != trace.name:
                found.append(Finding(f"{entry} reached {private[place]}, too", trace.name, place[0], event.at))
    return found
