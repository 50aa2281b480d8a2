"""Cursors and ids."""

from __future__ import annotations

import pytest

from orbit.protocol.cursors import NEW_ONLY, START, Cursor, parse_cursor
from orbit.protocol.ids import Epoch, is_name

EPOCH = Epoch("1700000000000000123")


@pytest.mark.parametrize("cursor", [START, Cursor(1, EPOCH), Cursor(10**15, EPOCH)])
def test_a_cursor_comes_back_from_its_text(cursor: Cursor) -> None:
    assert parse_cursor(str(cursor)) == cursor


NO_CURSORS = ["", "1", NEW_ONLY, f"0-{EPOCH}", f"01-{EPOCH}", "1-2", f"1-{EPOCH}\n", f"1-{EPOCH}0", f"\u0661-{EPOCH}"]


@pytest.mark.parametrize("text", [*NO_CURSORS, None, 0, b"0"])
def test_what_is_no_cursor(text: object) -> None:
    assert parse_cursor(text) is None


def test_names() -> None:
    assert is_name("a" * 16)
    assert is_name("A0_-" * 16)
    for text in ("a" * 15, "a" * 65, "a" * 16 + "\n", "ä" * 16, "a b" * 6, "{" * 16, None, 5, b"a" * 16):
        assert not is_name(text)
