"""What a run shows while it goes on, and its verdict: as tables for people, as JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orbit.cli.output import stderr, stdout
from orbit.verify.codec import to_json
from orbit.verify.recovery import Recovery
from orbit.verify.trace import Event, Finding, Trace

SHOWN = 20
"""So many violations are printed; the JSON has all."""
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault: how often it was done, how often there was nothing left to do it to, and how long it took till
    all went on (None where nobody waited)."""

    fault: str
    injected: int
    skipped: int
    p50_s: float | None
    max_s: float | None


def rows_of(faults: Sequence[str], recovery: Recovery) -> list[Row]:
    """A row for each fault, in their order."""
    return [
        Row(fault, recovery.count(fault), recovery.skipped.get(fault, 0), *(recovery.times_s(fault) or (None, None)))
        for fault in faults
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to.

    `excerpts` are the few events that show each finding; `began` is what their times count from.
    """

    seed: int
    for_s: float
    redis: str
    rows: Sequence[Row]
    totals: dict[str, Any]
    findings: Sequence[Finding]
    excerpts: Sequence[Sequence[Event]]
    began: float

    def as_json(self) -> dict[str, Any]:
        """As a script reads it."""
        return {
            "ok": not self.findings,
            "seed": self.seed,
            "for_s": self.for_s,
            "redis": self.redis,
            "faults": [
                {"fault": row.fault, "injected": row.injected, "skipped": row.skipped,
                 "recovery_s": None if row.p50_s is None else {"p50": row.p50_s, "max": row.max_s}}
                for row in self.rows
            ],
            "totals": self.totals,
            "violations": [
                {"what": one.what, "client": one.who, "transaction": one.tx, "at_s": self._since(one.at),
                 "trace": [
                     {"at_s": self._since(event.at), "connection": event.conn, "event": event.what,
                      "message": to_json(event.message)}
                     for event in events
                 ]}
                for one, events in zip(self.findings, self.excerpts, strict=True)
            ],
        }  # fmt: skip

    def _since(self, at: float | None) -> float | None:
        return None if at is None else round(at - self.began, 3)


class Screen:
    """Where a run is shown: stdout, or stderr where stdout is for the JSON."""

    def __init__(self, quiet_stdout: bool) -> None:
        self.console: Console = stderr() if quiet_stdout else stdout()
        self.every_s = 5.0

    def begin(self, seed: int, for_s: float, faults: Sequence[str], redis: str | None) -> None:
        """What is about to happen."""
        where = "a deployment of its own" if redis is None else "the Redis that was named, in a namespace of its own"
        self.console.print(f"For {for_s:g} s, against {where}, with seed {seed}: {', '.join(faults)}")

    def say(self, at_s: float, text: str) -> None:
        """A line of what happens."""
        self.console.print(f"{at_s:6.1f} s  {text}")

    def fault(self, at_s: float, fault: str, what: str) -> None:
        """A fault takes effect."""
        self.say(at_s, f"{fault:14} {what}")

    def recovered(self, at_s: float, fault: str, took_s: float) -> None:
        """Everybody who waited got something new since."""
        if fault:
            self.say(at_s, f"{'':14} over for all, {took_s:.2f} s after {fault}")

    def progress(self, at_s: float, attached: int, followed: int, jobs: int) -> None:
        """How far it is."""
        self.say(at_s, f"{attached} of {followed} attached, {jobs} jobs started")


def print_verdict(console: Console, verdict: Verdict) -> None:
    """The tables, and what was found with the trace that shows it."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("fault", "injected", "skipped", "recovery p50", "recovery max"):
        table.add_column(column, no_wrap=True, justify="left" if column == "fault" else "right")
    for row in verdict.rows:
        times = ("-" if value is None else f"{value:.2f} s" for value in (row.p50_s, row.max_s))
        table.add_row(row.fault, str(row.injected), str(row.skipped), *times)
    console.print()
    console.print(table)
    totals = verdict.totals
    resets = ", ".join(f"{count} {reason}" for reason, count in totals["resets"].items())
    console.print(
        f"\n{totals['updates']} updates and {totals['messages']} messages checked, {totals['clients']} clients, "
        f"{totals['transactions']} transactions; resets: {resets}; lost and told: {totals['messages_lost_and_told']} "
        f"messages, {totals['transactions_lost_and_told']} transactions; failed as Crashed: "
        f"{totals['transactions_failed_as_crashed']}"
    )
    for finding, events in list(zip(verdict.findings, verdict.excerpts, strict=True))[:SHOWN]:
        _print_finding(console, verdict, finding, events)
    count = len(verdict.findings)
    console.print(f"\nseed {verdict.seed}: " + (f"{count} VIOLATIONS" if count else "no violation"))


def _print_finding(console: Console, verdict: Verdict, finding: Finding, events: Sequence[Event]) -> None:
    where = " ".join(part for part in (finding.who, finding.tx) if part)
    console.print(f"\nVIOLATION {where}: {finding.what}"[:_LONGEST])
    for event in events:
        mark = ">" if event.at == finding.at else " "
        text = f" {mark} {event.at - verdict.began:8.3f} s  {event.conn} {event.what:6} {event.message}"
        console.print(text[:_LONGEST])


def write_traces(traces: Sequence[Trace], began: float, into: Path) -> None:
    """All that each client did and saw, an event a line."""
    for trace in traces:
        with (into / f"{trace.name.replace(' ', '-')}.jsonl").open("w") as file:
            for event in trace.events:
                line = {"at_s": round(event.at - began, 3), "connection": event.conn, "event": event.what}
                file.write(json.dumps({**line, "message": to_json(event.message)}) + "\n")


def write_json(verdict: Verdict, to: str) -> None:
    """The verdict as JSON, to a file or (`-`) to stdout."""
    text = json.dumps(verdict.as_json(), indent=1) + "\n"
    if to == "-":
        sys.stdout.write(text)
    else:
        Path(to).write_text(text)
