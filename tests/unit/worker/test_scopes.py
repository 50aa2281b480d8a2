from __future__ import annotations

import pytest

from orbit.errors import TooLarge, UsageError
from orbit.protocol.ids import InboxId, PublicName
from orbit.worker.scopes import (
    change_scope,
    entry_scope,
    item_scope,
    recall,
    record,
    run_keys,
    run_scope,
)


def test_a_name_is_used_once_in_a_pass() -> None:
    scope = run_scope(0)
    scope.use("a")
    with pytest.raises(UsageError, match="'a' is used twice"):
        scope.use("a")
    assert run_scope(0).use("a")


@pytest.mark.parametrize("name", ["", "a" * 201, "a\x1fb", "a\n", "\ud800", 7, None])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(UsageError):
        run_scope(0).use(name)  # type: ignore[arg-type]


def test_scopes_do_not_meet() -> None:
    scopes = [
        run_scope(0), run_scope(1), run_scope(10), item_scope(0, "l", 1), item_scope(0, "l", 11),
        item_scope(0, "1/l", 1), item_scope(1, "l", 1), entry_scope(InboxId("1-1")), entry_scope(InboxId("1-11")),
        change_scope(PublicName("p"), "e/c/a"), change_scope(PublicName("p"), ""),
    ]  # fmt: skip
    keys = [scope.use("name") for scope in scopes]
    assert len(set(keys)) == len(keys)
    for scope, key in zip(scopes, keys, strict=True):
        assert scope.keys(keys) == (key,)


def test_a_restart_forgets_run_and_its_loops_and_nothing_of_handlers() -> None:
    run, item, entry = run_scope(3).use("a"), item_scope(3, "l", 0).use("a"), entry_scope(InboxId("1-1")).use("a")
    assert run_keys([run, item, entry]) == (run, item)


def test_what_is_recorded_is_recalled_by_its_own_verb() -> None:
    packed = record("step", {"a": [1, b"x"]}, 100, "the result")
    assert recall("step", "n", packed) == {"a": [1, b"x"]}
    with pytest.raises(UsageError, match="recorded by step, not by each"):
        recall("each", "n", packed)
    with pytest.raises(TooLarge, match="the result"):
        record("step", "x" * 100, 100, "the result")
