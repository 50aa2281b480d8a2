"""Cursors: places in a transaction's log.

A cursor names an entry by its seq *and* its epoch, so that the log can tell whether it still holds the very history
that a client saw (as Raft checks a log by index and term). Its text, `<seq>-<epoch>`, is also the entry's id in the
stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orbit.protocol.ids import Epoch

_TEXT = re.compile(r"([1-9][0-9]{0,15})-([0-9]{19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The entry number `seq`, written under `epoch`. `START` (seq 0) is the place before the first entry."""

    seq: int
    epoch: Epoch

    def __str__(self) -> str:
        return f"{self.seq}-{self.epoch}" if self.seq else "0"


START = Cursor(0, Epoch(""))
"""Before the first entry; its text is `0`."""

NEW_ONLY = "$"
"""What a client says in place of a cursor that wants only what is new."""


def parse_cursor(text: object) -> Cursor | None:
    """The cursor that `text` names, or None where it is none (`$` is none either: it is no place)."""
    if text == "0":
        return START
    if not isinstance(text, str):
        return None
    match = _TEXT.fullmatch(text)
    return Cursor(int(match[1]), Epoch(match[2])) if match else None
