"""The workload's own numbers show what is wrong also where no log can tell any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orbit.verify.fates import Said, Task
from orbit.verify.judge import Reader, Record, counted, excerpt, judge
from orbit.verify.trace import Event, Message, Trace, entry_of
from orbit.verify.work import Kept, WorkChecker, check_agreement, kept_of
from tests.unit.verify.test_judge import SESSION, TX, attach, attached, cursor, end, send, trace

SEEN = ({"i": 1}, {"i": 2}, {"once": 1}, {"p": 1, "to": "me", "client": "client", "n": 1}, {"i": 3})


def updates(*datas: dict[str, Any], first: int = 1) -> list[Message]:
    return [
        {"type": "update", "tx": TX, "cursor": cursor(seq), "data": data} for seq, data in enumerate(datas, first)
    ]


def told(seq: int, reason: str = "rewound", view: Any = None) -> Message:
    return {"type": "reset", "tx": TX, "cursor": cursor(seq), "reason": reason, "view": view, "last_mid": 0}


def findings(*messages: Message, rewinds: bool = True, trimmed: dict[str, Kept] | None = None) -> list[str]:
    seen = trace([attach(), attached(), *messages])
    return [*map(str, WorkChecker(seen, {}, rewinds=rewinds, kept={}, trimmed=trimmed or {}).run())]


def test_what_is_right() -> None:
    assert findings(*updates(*SEEN)) == []


@pytest.mark.parametrize("at", range(len(SEEN) - 1))
def test_a_gap_and_a_repeat_show_by_count(at: int) -> None:
    assert any("gap" in line for line in findings(*updates(*SEEN[:at], *SEEN[at + 1 :], {"i": 9})))
    twice = findings(*updates(*SEEN[: at + 1], SEEN[at]))
    assert any("repeat by the State's own count" in line for line in twice)


def test_a_view_goes_on_where_it_says() -> None:
    view = {"i": 7, "once": 4, "p": {"me": 3, "you": 9}}
    after = ({"i": 8}, {"once": 5}, {"p": 4, "to": "me", "client": "client", "n": 9})
    assert findings(*updates(*SEEN), told(20, view=view), *updates(*after, first=21)) == []
    wrong = {**view, "i": 8}
    assert any("repeat" in line for line in findings(*updates(*SEEN), told(20, view=wrong), *updates(*after, first=21)))
    assert findings(*updates(*SEEN), told(0), *updates(*SEEN)) == []
    assert any("gap" in line for line in findings(*updates(*SEEN), told(0), *updates({"i": 2})))


def test_a_private_update_of_another_is_found() -> None:
    others = {"p": 1, "to": "you", "client": "another", "n": 1}
    assert any("a private update for another reached client" in line for line in findings(*updates(others)))


def test_a_step_that_was_recorded_twice_is_found() -> None:
    drawn = {"i": 1, "drawn": 1, "token": "a"}
    assert findings(*updates(drawn, {"i": 2, "confirmed": 1, "token": "a"})) == []
    assert any("twice" in line for line in findings(*updates(drawn, {"i": 2, "confirmed": 1, "token": "b"})))


def test_only_a_short_log_is_reset_as_trimmed_and_only_when_it_is() -> None:
    view = {"i": 90, "once": 0, "p": {}}
    messages = [*updates({"i": 1}), told(90, "trimmed", view)]
    assert findings(*messages, trimmed={TX: Kept(60, [0.0], [90])}) == []
    assert any("needless" in line for line in findings(*messages, trimmed={TX: Kept(60, [0.0], [50])}))
    assert any("a reset" in line for line in findings(*messages))
    assert any("a reset" in line for line in findings(*updates({"i": 1}), told(0), rewinds=False))


def test_how_far_a_log_had_come() -> None:
    made = Trace("client", [Event(at, 1, "got", {"tx": TX, "cursor": cursor(seq)}) for at, seq in ((1, 4), (3, 9))])
    kept = kept_of([made], {TX: 5})[TX]
    assert [kept.head_at(at) for at in (0.5, 1, 2.9, 3, 9)] == [0, 4, 4, 9, 9]


def test_one_cursor_is_one_entry_for_all() -> None:
    public, mine = updates({"i": 1}, SEEN[3])
    one, other = trace([public, mine]), trace([public])
    other.name = "another"
    assert check_agreement([one, other]) == []
    other.events[1] = Event(0, 1, "got", {**public, "data": {"i": 5}})
    assert any("to others" in str(line) for line in check_agreement([one, other]))
    other.events[1] = Event(0, 1, "got", mine)
    assert any("reached client, too" in str(line) for line in check_agreement([one, other]))


def record(seen: list[Message], log: list[Message], **changed: Any) -> Record:
    """A run of one client in one transaction."""
    entries, whole = ([entry for entry in map(entry_of, messages) if entry] for messages in (seen, log))
    reader = Reader("client", TX, SESSION, entries, 0)
    made = {"readers": [reader], "tasks": [], "logs": {(TX, SESSION): whole}, "trimmed": {}, "rewinds": False}
    return Record(**{"traces": [trace([attach(), attached(), *seen])], **made, **changed})


def test_a_whole_run_that_is_right() -> None:
    messages = [*updates(*SEEN), end(6)]
    assert judge(record(messages, messages)) == []


def test_a_dropped_update_is_found_and_shown() -> None:
    whole = [*updates(*SEEN), end(6)]
    made = record([*whole[:2], *whole[3:]], whole)
    found = judge(made)
    assert any("a gap: missed" in str(one) and cursor(3) in str(one) for one in found)
    assert any("holds 5 entries of 6" in str(one) for one in found)
    [first, *_] = (one for one in found if one.at is not None)
    shown = excerpt(made.traces[0], first)
    assert shown[0].message["type"] == "attached"
    assert len(shown) <= 6


def test_an_end_that_was_lost_can_not_be_told() -> None:
    """Who saw it has left: no finding, where Redis may lose its newest writes. Otherwise it is one."""
    seen, log = [*updates({"i": 1}, {"i": 2}), end(3)], [*updates({"i": 1}, {"i": 2}, {"i": 3}), end(4)]
    lost = [{**message, "cursor": message["cursor"][:-1] + "9"} for message in seen[1:]]
    assert judge(record([seen[0], *lost], log, rewinds=True)) == []
    assert judge(record([seen[0], *lost], log))


@pytest.mark.parametrize("kept", [False, True])
def test_what_was_acknowledged_may_not_be_lost_where_that_waits(kept: bool) -> None:
    """Otherwise it may, if it was told."""
    messages = [*updates(*SEEN), end(6)]
    made = record(messages, messages, rewinds=True, kept=kept)
    said = Said("client", TX, {1: "count"}, frozenset(), lost=frozenset({1}))
    task = Task("client", "another", ("finished", None), None, "not_found")
    made = replace(made, readers=[replace(made.readers[0], said=said)], tasks=[task])
    found = [str(one) for one in judge(made)]
    assert any("messages [1] were acknowledged and lost" in line for line in found) == kept
    assert any("a transaction that was started has no end" in line for line in found) == kept


def test_what_was_checked_is_counted() -> None:
    made = trace([attach(), attached(), send(1), *updates(*SEEN), told(3, "trimmed")])
    assert counted([made]) == {"updates": 5, "messages": 1, "resets": {"trimmed": 1, "rewound": 0}}
