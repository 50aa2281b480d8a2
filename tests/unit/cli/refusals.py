"""What every command line that can't be carried out has in common."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orbit.cli.main import run


def check_refused(arguments: Sequence[str], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It fails with one line that says what is wrong, and prints nothing else."""
    assert run(arguments) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("orbit: ")
    assert err.count("\n") == 1
    assert names in err
