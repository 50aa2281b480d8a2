"""The checker finds each kind of fault when it is planted, and nothing in what is right."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orbit.verify
from orbit.verify.conversation import check_trace
from orbit.verify.logs import check_complete, check_logs, check_messages
from orbit.verify.trace import Event, Finding, LogEntry, Message, Trace, entry_of

TX = "transaction-under-test"
SESSION = "session-under-test"
EPOCH = "1764000000000000123"


def cursor(seq: int) -> str:
    return f"{seq}-{EPOCH}" if seq else "0"


def update(seq: int) -> Message:
    return {"type": "update", "tx": TX, "cursor": cursor(seq), "data": seq}


def refusal(seq: int, mid: int, code: str = "state_error") -> Message:
    return {"type": "rejected", "tx": TX, "mid": mid, "code": code, "message": "no", "cursor": cursor(seq)}


def not_stored(mid: int, code: str) -> Message:
    return {"type": "rejected", "tx": TX, "mid": mid, "code": code, "message": "later"}


def advance(seq: int) -> Message:
    return {"type": "advance", "tx": TX, "cursor": cursor(seq)}


def end(seq: int) -> Message:
    return {"type": "end", "tx": TX, "cursor": cursor(seq), "status": "finished"}


def receipt(mid: int, duplicate: bool = False) -> Message:
    return {"type": "receipt", "tx": TX, "mid": mid, "duplicate": duplicate}


def attach(after: str = "0") -> Message:
    return {"type": "attach", "tx": TX, "after": after, "session": SESSION}


def attached(at: str = "0", last_mid: int = 0) -> Message:
    return {
        "type": "attached",
        "tx": TX,
        "session": SESSION,
        "cursor": at,
        "status": "running",
        "last_mid": last_mid,
    }


def send(mid: int) -> Message:
    return {"type": "send", "tx": TX, "mid": mid, "data": mid}


def reset(at: str, last_mid: int = 0) -> Message:
    return {
        "type": "reset",
        "tx": TX,
        "cursor": at,
        "reason": "trimmed",
        "view": None,
        "last_mid": last_mid,
    }


FROM_CLIENT = {"attach", "send", "cancel", "detach", "ping"}


def trace(*connections: list[Message], still_open: bool = False) -> Trace:
    made = Trace("client")
    for conn, messages in enumerate(connections, 1):
        made.events.append(Event(0, conn, "open", {"url": "http://edge"}))
        for message in messages:
            made.events.append(Event(0, conn, "sent" if message["type"] in FROM_CLIENT else "got", message))
        if not still_open:
            made.events.append(Event(0, conn, "closed", {"code": 1006, "reason": ""}))
    return made


LOG = [entry for entry in (entry_of(m) for m in (update(1), update(2), refusal(4, 1), update(5), end(6))) if entry]
"""What the session under test sees of a log whose third entry is another session's."""
WHOLE = [update(1), update(2), advance(3), refusal(4, 1), update(5), end(6)]


def findings(*connections: list[Message], still_open: bool = False, **options: Any) -> list[str]:
    return [*map(str, check_trace(trace(*connections, still_open=still_open), {TX: LOG}, **options))]


def test_a_right_trace_has_no_findings() -> None:
    assert findings([attach(), attached(), send(1), receipt(1), *WHOLE], still_open=True) == []


@given(st.lists(st.integers(0, len(WHOLE)), max_size=4))
def test_any_resumption_of_a_right_trace_has_no_findings(cuts: list[int]) -> None:
    connections = []
    for held, upto in pairwise([0, *sorted(cuts), len(WHOLE)]):
        place, last_mid = cursor(held), 1 if connections else 0
        sent = [] if connections else [send(1), receipt(1)]
        connections.append([attach(place), attached(place, last_mid), *sent, *WHOLE[held:upto]])
    assert findings(*connections) == []


@given(st.integers(0, len(WHOLE) - 2), st.data())
def test_a_dropped_entry_is_a_gap(at: int, data: st.DataObject) -> None:
    if WHOLE[at]["type"] == "advance":
        return
    kept = WHOLE[:at] + WHOLE[at + 1 :]
    cut = data.draw(st.integers(0, len(kept) - 1))
    last = kept[cut - 1]["cursor"] if cut else "0"
    first = [attach(), attached(), send(1), receipt(1), *kept[:cut]]
    found = findings(first, [attach(last), attached(last, 1), *kept[cut:]])
    assert any("gap" in line or "passes over" in line for line in found)


@given(st.integers(0, len(WHOLE) - 2), st.integers(0, len(WHOLE) - 2))
def test_a_repeated_entry_is_found(what: int, where: int) -> None:
    again = [*WHOLE[: where + 1], WHOLE[min(what, where)], *WHOLE[where + 1 :]]
    found = findings([attach(), attached(), send(1), receipt(1), *again])
    assert any("repeat" in line or "goes back" in line for line in found)


@given(st.integers(0, len(WHOLE) - 2))
def test_a_reorder_is_found(at: int) -> None:
    swapped = list(WHOLE)
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    assert findings([attach(), attached(), send(1), receipt(1), *swapped])


def test_a_repeat_is_found_without_the_log() -> None:
    seen = trace([attach(), attached(), update(1), update(2), update(1)])
    assert any("repeat" in str(line) for line in check_trace(seen))
    seen = trace([attach(), attached(), update(1), update(2)], [attach(cursor(2)), attached(cursor(2)), update(2)])
    assert any("repeat" in str(line) for line in check_trace(seen))


PLANTED: dict[str, tuple[str, list[list[Message]]]] = {
    "entry before attached": ("while not attached", [[attach(), update(1), attached()]]),
    "entry after detached": (
        "while not attached",
        [[attach(), attached(), {"type": "detach", "tx": TX}, {"type": "detached", "tx": TX}, update(1)]],
    ),
    "entry after replaced": (
        "while not attached",
        [[attach(), attached(), {"type": "error", "tx": TX, "code": "replaced", "message": ""}, update(1)]],
    ),
    "entry after the end": ("after the end", [[attach(), attached(), *WHOLE, update(7)]]),
    "entry of nobody": ("isn't in the log", [[attach(), attached(), {**update(1), "cursor": "1-9"}]]),
    "other content": ("another content", [[attach(), attached(), {**update(1), "data": "x"}]]),
    "attached elsewhere": ("no reset right after", [[attach(), attached(cursor(1)), update(2)]]),
    "attached unasked": ("without an attach", [[attached()]]),
    "another session": ("another session", [[attach(), {**attached(), "session": "b" * 16}]]),
    "cursor misuse by the client": ("never given", [[attach(cursor(4)), attached(cursor(4))]]),
    "advance over an own entry": ("passes over", [[attach(), attached(), update(1), advance(3)]]),
    "advance back": ("goes back", [[attach(), attached(), update(1), update(2), advance(1)]]),
    "reset": ("a reset", [[attach(), attached(cursor(2)), reset(cursor(2))]]),
    "answer unasked": ("waits for none", [[attach(), attached(), receipt(1)]]),
    "answered twice": ("waits for none", [[attach(), attached(), send(1), receipt(1), receipt(1)]]),
    "stored twice": (
        "stored twice",
        [[attach(), attached(), send(1), receipt(1), send(1), receipt(1)]],
    ),
    "first copy a duplicate": ("called a duplicate", [[attach(), attached(), send(1), receipt(1, True)]]),
    "receipt forgotten": ("below the receipt", [[attach(), attached(), send(1), receipt(1)], [attach(), attached()]]),
    "last_mid out of the air": ("above all mids", [[attach(), attached()], [attach(), attached("0", 3)]]),
    "refusal of nothing": ("never sent", [[attach(), attached(), *WHOLE[:4]]]),
    "stored and not stored": (
        "said not to be",
        [[attach(), attached(), send(1), receipt(1), send(1), not_stored(1, "overloaded")]],
    ),
    "out_of_order without last_mid": (
        "without last_mid",
        [[attach(), attached(), send(2), not_stored(2, "out_of_order")]],
    ),
    "wrong pong": ("answers no ping", [[{"type": "ping", "nonce": 1}, {"type": "pong", "nonce": 2}]]),
    "detached unasked": ("wasn't asked", [[attach(), attached(), {"type": "detached", "tx": TX}]]),
    "cancelled unasked": ("wasn't asked", [[attach(), attached(), {"type": "cancelled", "tx": TX}]]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_finds_what_is_planted(name: str) -> None:
    expected, connections = PLANTED[name]
    assert any(expected in line for line in findings(*connections)), findings(*connections)


@pytest.mark.parametrize(
    "message",
    [attach(), send(1), {"type": "cancel", "tx": TX}, {"type": "detach", "tx": TX}, {"type": "ping", "nonce": 1}],
    ids=lambda message: message["type"],
)
def test_a_missing_answer_is_found_where_the_connection_stayed(message: Message) -> None:
    before = [] if message["type"] == "attach" else [attach(), attached()]
    assert any("no " in line for line in findings([*before, message], still_open=True))
    assert findings([*before, message]) == []


def test_a_reset_is_right_where_it_is_expected() -> None:
    log = [attach(), attached(cursor(2)), reset(cursor(2)), advance(3), refusal(4, 1), update(5), end(6)]
    found = findings([send(1), receipt(1), *log], resets={"trimmed", "rewound"})
    assert found == []
    gap = [attach(), attached(cursor(2)), reset(cursor(2)), update(5)]
    assert any("gap" in line for line in findings(gap, resets={"trimmed", "rewound"}))


def test_a_lost_history_is_right_where_a_reset_tells_of_it() -> None:
    lost = {**update(3), "cursor": "3-999"}
    seen = [attach(), attached(), update(1), update(2), lost]
    told = [*seen, reset("0"), update(1), update(2)]
    assert findings(told, resets={"trimmed", "rewound"}) == []
    assert any("wasn't told" in line for line in findings(seen, resets={"trimmed", "rewound"}))
    again = [attach("3-999"), attached("3-999"), update(5)]
    assert any("without a reset" in line for line in findings(seen, again, resets={"trimmed", "rewound"}))
    assert any("isn't in the log" in line for line in findings(told))


def test_an_advance_to_what_is_lost_is_right_where_a_reset_tells_of_it() -> None:
    """Redis lost what was for another session, and something else stands there now, for this one."""
    lost = {**advance(3), "cursor": "3-1763"}
    seen = [attach(), attached(), update(1), update(2), lost]
    kept = {cursor(seq) for seq in range(1, 7)}

    def found(*messages: Message) -> list[Finding]:
        return check_trace(trace([*seen, *messages]), {TX: LOG}, resets={"rewound"}, kept={TX: kept})

    assert found({**reset("0"), "reason": "rewound"}, update(1), update(2)) == []
    assert any("wasn't told" in str(line) for line in found())
    assert any("without a reset" in str(line) for line in found(update(5)))


def test_an_attach_for_what_is_new_skips_what_was() -> None:
    seen = [attach("$"), attached(cursor(4)), update(5), end(6)]
    assert findings(seen) == []
    assert any("gap" in line for line in findings([attach("$"), attached(cursor(2)), update(5)]))


def test_an_older_attachments_entries_are_ignored_until_the_answer() -> None:
    assert findings([attach(), attached(), update(1), attach(), update(2), attached(), update(1), update(2)]) == []


def test_complete_is_the_whole_log() -> None:
    assert check_complete("c", LOG, LOG) == []
    assert check_complete("c", LOG[:-1], LOG)
    assert check_complete("c", [*LOG[:1], *LOG[2:]], LOG)


def entries(*seqs: int) -> list[LogEntry]:
    return [LogEntry(cursor(seq), "update", seq) for seq in seqs]


@pytest.mark.parametrize(
    ("logs", "wrong"),
    [
        ({"a": entries(1, 2, 4), "b": entries(1, 3, 4)}, None),
        ({"a": entries(1, 2, 4), "b": entries(1, 4)}, "dense"),
        ({"a": entries(1, 2), "b": entries(1, 2), "c": entries(1)}, "shown to 2 of 3"),
        ({"a": entries(2, 1)}, "isn't in order"),
        ({"a": entries(1), "b": [LogEntry(cursor(1), "update", "x")]}, "to another"),
        ({"a": [*entries(1), LogEntry("1-8888", "update", 1)]}, "doubled"),
    ],
)
def test_logs_are_compared(logs: dict[str, list[LogEntry]], wrong: str | None) -> None:
    found = [*map(str, check_logs(logs))]
    assert (found == []) if wrong is None else any(wrong in line for line in found)


@pytest.mark.parametrize(
    ("stored", "handled", "refused", "wrong"),
    [
        ([1, 2, 3], [1, 3], {2: "state_error"}, None),
        ([1, 2, 3], [1, 3], {}, "mid 2 was lost"),
        ([1, 3], [1, 3, 3], {2: "state_error"}, "3 was handled 2 times"),
        ([1, 3], [3, 1], {2: "state_error"}, "out of order"),
        ([1, 2, 3], [1, 2, 3], {2: "state_error"}, "handled and refused"),
        ([1, 2, 3], [1], {2: "state_error", 3: "internal"}, "mid 3 was answered with internal"),
        ([1, 2, 3], [1, 2, 3], {}, "mid 2 was answered with None"),
        ([1], [1], {2: "state_error"}, None),
    ],
)
def test_the_fate_of_messages(
    stored: list[int], handled: list[int], refused: dict[int, str], wrong: str | None
) -> None:
    found = [*map(str, check_messages("c", stored, handled, refused, {2: "state_error"}.get))]
    assert (found == []) if wrong is None else any(wrong in line for line in found), found


def test_the_judging_room_imports_nothing_else_of_orbit() -> None:
    """What is written from the public page alone can't share a defect with what it judges."""
    for path in Path(orbit.verify.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] != "orbit" or name.startswith("orbit.verify."), f"{path} imports {name}"


def older(seq: int) -> Message:
    return {"type": "update", "tx": TX, "cursor": f"{seq}-1763000000000000123", "data": seq}


def test_two_writers_are_found_by_their_epochs() -> None:
    entries = [entry for entry in map(entry_of, (update(1), older(2), update(3))) if entry]
    assert any("two writers" in str(line) for line in check_logs({"a": entries}))
    assert any("two writers" in str(line) for line in check_trace(trace([attach(), attached(), update(1), older(2)])))


@pytest.mark.parametrize(
    ("last_mid", "lost", "needless"), [(1, False, True), (0, False, False), (1, True, False)], ids=str
)
def test_a_reset_that_nothing_asked_for_is_found(last_mid: int, lost: bool, needless: bool) -> None:
    """It says `rewound`, and yet the client's cursor is in the log and all its messages are stored."""
    told = {**reset(cursor(0), last_mid), "reason": "rewound"}
    messages = [attach(), attached(), send(1), receipt(1), update(1), told]
    kept = {cursor(2)} if lost else {cursor(1), cursor(2)}
    found = check_trace(trace(messages), resets={"rewound"}, kept={TX: kept})
    assert any("needless" in str(line) for line in found) == needless, found
