"""`orbit verify`: what can't be asked of it, and what its verdict says."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest
from rich.console import Console

from orbit.cli.main import run
from orbit.cli.verify.report import Verdict, print_verdict, rows_of, write_traces
from orbit.cli.verify.skewed import RUNNING, skew
from orbit.verify.plan import FAULTS
from orbit.verify.recovery import Recovery
from orbit.verify.trace import Event, Finding, Trace
from tests.unit.cli.refusals import check_refused

PAGE = (Path(__file__).parents[3] / "docs" / "verify.md").read_text()
EVENT = Event(12.5, 3, "got", {"type": "update", "tx": "t", "cursor": "7-1", "data": b"\x00"})


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--faults", "meteor"], "there is no fault 'meteor'"),
        (["--for", "soon"], "a time is a number of seconds"),
        (["--redis", "redis://127.0.0.1:1", "--faults", "failover"], "failover can't be done"),
        (["--redis", "rediss://127.0.0.1:1", "--faults", "cut"], "cut can't be done"),
        (["--json", "/no/such/place/v.json"], "there is no directory"),
        (["--clients", "1"], "clients"),
        (["--durability", "eternal"], "durability is one of"),
    ],
)
def test_what_can_not_be_asked(arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(["verify", *arguments], names, capsys)


def verdict(*findings: Finding) -> Verdict:
    recovery = Recovery()
    recovery.begin("cut", 1.0, [("client 1", "t")])
    recovery.heard(("client 1", "t"), 3.0)
    totals = {
        "updates": 9, "messages": 8, "resets": {"trimmed": 1, "rewound": 0}, "clients": 7, "transactions": 6,
        "transactions_lost_and_told": 0, "transactions_failed_as_crashed": 0, "messages_lost_and_told": 0,
    }  # fmt: skip
    rows = rows_of(("cut", "latency"), recovery)
    return Verdict(5, 60.0, "embedded", rows, totals, findings, [[EVENT] for _ in findings], began=10.0)


def test_the_verdict_for_scripts() -> None:
    made = verdict(Finding("a gap", "client 1", "t", 12.5)).as_json()
    assert not made["ok"]
    assert made["faults"] == [
        {"fault": "cut", "injected": 1, "skipped": 0, "recovery_s": {"p50": 2.0, "max": 2.0}},
        {"fault": "latency", "injected": 0, "skipped": 0, "recovery_s": None},
    ]
    [violation] = made["violations"]
    assert (violation["what"], violation["client"], violation["at_s"]) == ("a gap", "client 1", 2.5)
    assert violation["trace"][0]["message"]["data"] == {"$bytes": "AA=="}
    assert verdict().as_json()["ok"]


def test_the_verdict_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdict(Console(width=200, highlight=False, markup=False), verdict(Finding("a gap", "client 1", "t", 12.5)))
    out = capsys.readouterr().out
    assert "VIOLATION client 1 t: a gap" in out
    assert " >    2.500 s" in out
    assert out.rstrip().endswith("seed 5: 1 VIOLATIONS")
    print_verdict(Console(width=200, highlight=False, markup=False), verdict())
    assert capsys.readouterr().out.rstrip().endswith("seed 5: no violation")


def test_clocks_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day is off; what only runs, runs at another pace, from where it stood."""
    right = dict.fromkeys((time.CLOCK_REALTIME, *RUNNING), 100 * 10**9)
    for name in ("clock_gettime_ns", "clock_gettime", "time", "time_ns", "monotonic", "monotonic_ns"):
        monkeypatch.setattr(time, name, getattr(time, name))  # so that it is put right again
    monkeypatch.setattr(time, "clock_gettime_ns", right.__getitem__)
    skew(-30.0, 0.5)
    assert (time.time(), time.monotonic()) == (70.0, 100.0)
    right.update(dict.fromkeys(right, 110 * 10**9))
    assert (time.time(), time.monotonic()) == (80.0, 105.0)
    assert [time.clock_gettime(clock) for clock in RUNNING] == [105.0] * len(RUNNING)
    assert (time.time_ns(), time.monotonic_ns()) == (80 * 10**9, 105 * 10**9)


def test_traces_are_kept_an_event_a_line(tmp_path: Path) -> None:
    write_traces([Trace("client 1", [EVENT, EVENT])], 10.0, tmp_path)
    lines = (tmp_path / "client-1.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert '"at_s": 2.5' in lines[0]


def test_the_page_names_every_fault_and_no_other() -> None:
    section = PAGE.split("## The faults")[1].split("##")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if "`" in line[:4]]
    assert {name for row in rows for name in re.findall("`([a-z-]+)`", row)} == set(FAULTS)


def test_the_commands_of_the_page_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the running of it: that is tested elsewhere."""
    begun: list[object] = []
    monkeypatch.setattr("orbit.cli.life.live", begun.append)
    block = PAGE.split("```sh")[1].split("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line]
    for command in commands:
        assert command[:2] == ["orbit", "verify"]
        assert run(command[1:]) == 0, command
    assert len(begun) == len(commands) > 3
