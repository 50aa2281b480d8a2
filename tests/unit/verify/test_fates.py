"""What became of messages and transactions: each wrong fate is found when it is planted, and no right one."""

from __future__ import annotations

from typing import Any

import pytest

from orbit.verify.fates import Said, Task, check_said, check_task

ASKED = {1: "count", 2: "private", 3: "raise", 4: "reject", 5: "count"}
STORED = frozenset(ASKED)
REFUSED = {3: "state_error", 4: "forbidden"}


@pytest.mark.parametrize(
    ("handled", "changed", "wrong"),
    [
        ([1, 2, 5], {}, None),
        ([1, 2], {"refused": {**REFUSED, 5: "ended"}}, None),
        ([1, 2], {"stored": frozenset({1, 2, 3, 4}), "lost": frozenset({5})}, None),
        ([1, 2, 5], {"stored": frozenset({1, 2, 3, 4}), "lost": frozenset({5})}, None),
        ([1, 2, 5], {"refused": {}, "may_miss": True}, None),
        ([1, 2, 2, 5], {}, "message 2 was handled 2 times"),
        ([2, 1, 5], {}, "out of order"),
        ([1, 2], {}, "message 5 (count) was confirmed and lost in silence"),
        ([1, 2, 5], {"refused": {4: "forbidden"}}, "message 3 (raise) was confirmed and lost"),
        ([1, 2, 5, 9], {}, "message 9 was handled, and never sent"),
        ([1, 2, 3, 5], {}, "message 3 was handled, and refused"),
        ([1, 2, 3, 5], {"refused": {4: "forbidden"}}, "was to be refused as state_error, and was handled"),
        ([1, 2], {"refused": {**REFUSED, 5: "state_error"}}, "message 5 (count) was refused as state_error"),
        ([1], {"may_miss": True}, "message 2 (private) was confirmed and lost in silence"),
    ],
)
def test_the_fate_of_messages(handled: list[int], changed: dict[str, Any], wrong: str | None) -> None:
    said = Said(**{"client": "c", "tx": "t", "asked": ASKED, "stored": STORED, "refused": REFUSED, **changed})
    found = [str(one) for one in check_said(said, handled)]
    assert (found == []) if wrong is None else any(wrong in line for line in found), found


@pytest.mark.parametrize(
    ("ended", "gone", "rewinds", "wrong"),
    [
        (("finished", 3), None, False, None),
        (("finished", 4), None, False, "ended as ('finished', 4)"),
        (("failed", None), None, True, "ended as ('failed', None)"),
        (None, None, True, "nothing is heard of it"),
        (None, "not_found", False, "not_found"),
        (None, "not_found", True, None),
        (None, "forbidden", True, "forbidden"),
    ],
)
def test_the_fate_of_transactions(ended: Any, gone: str | None, rewinds: bool, wrong: str | None) -> None:
    found = [str(one) for one in check_task(Task("c", "t", ("finished", 3), ended, gone), rewinds=rewinds)]
    assert (found == []) if wrong is None else any(wrong in line for line in found), found


def test_it_may_fail_for_its_crashes_only_where_workers_are_lost() -> None:
    task = Task("c", "t", ("finished", 3), ("failed", None), crashed=True)
    assert check_task(task, rewinds=True, crashes=True) == []
    assert check_task(task, rewinds=True)
