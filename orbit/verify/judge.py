"""The judgement of a whole run: a pure function over what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orbit.verify.fates import Said, Task, check_said, check_task
from orbit.verify.logs import check_complete, check_logs
from orbit.verify.trace import Event, Finding, LogEntry, Trace, seq_of
from orbit.verify.work import WorkChecker, check_agreement, kept_of

BEFORE = 4
"""How many messages a minimal trace shows before the one that is wrong."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One client in one transaction that was followed to its end: what it holds since its start or its last reset."""

    client: str
    tx: str
    session: str
    entries: Sequence[LogEntry]
    resets: int
    said: Said | None = None
    handled: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of a run.

    Attributes:
        traces: What each client did and saw.
        readers: Those that saw an end.
        tasks: The transactions that end by themselves.
        logs: For each (transaction, session): the log as it is at last, from its start.
        trimmed: The transactions that keep few updates, and how many.
        rewinds: Redis may have lost its newest writes.
        kept: But nothing that it acknowledged.
        crashes: Workers were lost, or cut off, on purpose.
    """

    traces: Sequence[Trace]
    readers: Sequence[Reader]
    tasks: Sequence[Task]
    logs: Mapping[tuple[str, str], Sequence[LogEntry]]
    trimmed: Mapping[str, int]
    rewinds: bool
    kept: bool = False
    crashes: bool = False


def judge(record: Record) -> list[Finding]:
    """All that isn't as promised, in the order in which it showed."""
    found: list[Finding] = []
    kept: dict[str, set[str]] = {}
    for (tx, _), log in record.logs.items():
        kept.setdefault(tx, set()).update(entry.cursor for entry in log)
    trimmed = kept_of(record.traces, record.trimmed)
    sessions = {(reader.client, reader.tx): reader.session for reader in record.readers}
    for trace in record.traces:
        own = {tx: log for (tx, session), log in record.logs.items() if sessions.get((trace.name, tx)) == session}
        found += WorkChecker(trace, own, rewinds=record.rewinds, kept=kept, trimmed=trimmed).run()
    found += check_agreement(record.traces)
    for reader in record.readers:
        found += _check_reader(reader, record)
    for tx in {tx for tx, _ in record.logs}:
        logs = check_logs({session: log for (of, session), log in record.logs.items() if of == tx})
        found += [Finding(one.what, one.who, tx) for one in logs]
    for task in record.tasks:
        found += check_task(task, rewinds=record.rewinds and not record.kept, crashes=record.crashes)
    return sorted(found, key=lambda one: float("inf") if one.at is None else one.at)


def _check_reader(reader: Reader, record: Record) -> list[Finding]:
    found: list[Finding] = []
    log = record.logs.get((reader.tx, reader.session))
    held = reader.entries
    if log is not None and not (record.rewinds and log[-1:] != held[-1:]):  # an end that was lost with newest writes
        if reader.resets and held:  # it holds what came since, and that whole
            log = [entry for entry in log if seq_of(entry.cursor) >= seq_of(held[0].cursor)]
        found += [Finding(one.what, one.who, reader.tx) for one in check_complete(reader.client, held, log)]
    if reader.said is not None and reader.said.lost and record.kept:
        text = f"messages {sorted(reader.said.lost)} were acknowledged and lost"
        found.append(Finding(text, reader.client, reader.tx))
    if reader.said is not None:
        found += check_said(reader.said, reader.handled)
    return found


def excerpt(trace: Trace, finding: Finding) -> list[Event]:
    """The few events that show a finding: the attach that the stream rests on, the messages just before, the wrong one.

    For a finding that shows at the end only: the last events of its transaction.
    """
    own = [event for event in trace.events if event.what in ("open", "closed") or event.message.get("tx") == finding.tx]
    if finding.at is not None:
        own = [event for event in own if event.at <= finding.at]
    last = own[-BEFORE - 1 :]
    resting = [event for event in own[: -BEFORE - 1] if _begins_stream(event)]
    return [*resting[-1:], *last]


def _begins_stream(event: Event) -> bool:
    return event.what == "got" and event.message.get("type") in ("attached", "reset")


def counted(traces: Sequence[Trace]) -> dict[str, Any]:
    """How much was checked: updates received, messages sent, resets by reason."""
    updates, messages, resets = 0, 0, {"trimmed": 0, "rewound": 0}
    for trace in traces:
        for event in trace.events:
            kind = event.message.get("type")
            updates += event.what == "got" and kind == "update"
            messages += event.what == "sent" and kind == "send"
            if event.what == "got" and kind == "reset":
                reason = str(event.message["reason"])
                resets[reason] = resets.get(reason, 0) + 1
    return {"updates": updates, "messages": messages, "resets": resets}
