"""What can't be done is one line and a status."""

from __future__ import annotations

import pytest
import typer

from orbit.cli.failures import CommandError, line_of, status_of
from orbit.errors import DefinitionError, NotFound, OrbitError, StoreUnusable, TransactionFailed, Unavailable


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (typer.BadParameter("no such thing"), "Invalid value: no such thing", 2),
        (NotFound("no such transaction"), "not_found: no such transaction", 1),
        (Unavailable("no Redis\nat all"), "unavailable: no Redis at all", 1),
        (DefinitionError("Counter: field x"), "Counter: field x", 3),
        (StoreUnusable("too old"), "too old", 4),
        (CommandError("which?", 2), "which?", 2),
        (TransactionFailed("boom", status="failed", type="ValueError"), "failed: ValueError: boom", 1),
        (TransactionFailed("over", status="cancelled", type="cancelled"), "cancelled: over", 1),
        (FileNotFoundError(2, "No such file", "x.py"), "No such file: x.py", 1),
        (ExceptionGroup("some", [OrbitError("one")]), "one", 1),
        (KeyError("x"), "unexpected KeyError: 'x' (ORBIT_TRACE=1 shows where)", 1),
    ],
)
def test_a_line_and_a_status(error: BaseException, line: str, status: int) -> None:
    assert line_of(error) == line
    assert status_of(error) == status
