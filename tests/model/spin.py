"""Debian's spin: a model of docs/model/, searched through to its end."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parents[2] / "docs" / "model"
DEPTH = 100_000
MEMORY_MB = 2_000
_TIMEOUT_S = 100
_STORED = re.compile(r"^\s*(\d+) states, stored", re.MULTILINE)
_ERRORS = re.compile(r"errors: (\d+)")
_UNREACHED = re.compile(r"^\s+(\S+\.pml:\d+), state \d+, \"(.*)\"$", re.MULTILINE)
_CUT_SHORT = ("max search depth too small", "out of memory", "truncated", "reached -DMEMLIM", "aborting", "interrupted")


@dataclass(frozen=True, slots=True)
class Search:
    """What an exhaustive search found.

    Attributes:
        errors: Violations; a search ends at the first.
        violated: The assertion that was violated, if any.
        states: How many different states were seen.
        unreached: Statements that no run comes to, each with its place.
        whole: Nothing was left out: neither depth nor memory ended it.
        said: All that it printed.
    """

    errors: int
    violated: str
    states: int
    unreached: tuple[str, ...]
    whole: bool
    said: str


def search(model: str, defines: tuple[str, ...], room: Path) -> Search:
    """Search all runs of a model with these macros defined; `room`: an empty directory for what is made."""
    for source in MODELS.glob("*.pml"):
        (room / source.name).write_text(source.read_text())
    options = [f"-D{one}" for one in defines]
    _run(["spin", *options, "-a", f"{model}.pml"], room)
    _run(["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"], room)
    said = _run(["./pan", "-E", f"-m{DEPTH}", "-w22"], room)
    found = _ERRORS.search(said)
    assert found, said
    violated = re.search(r"pan:1: (.*)", said)
    return Search(
        errors=int(found[1]),
        violated=violated[1] if violated else "",
        states=int(_STORED.findall(said)[0]),
        unreached=tuple(f"{place} {what}" for place, what in _UNREACHED.findall(said) if what != "-end-"),
        whole=not any(sign in said for sign in _CUT_SHORT),
        said=said,
    )


def _run(command: list[str], room: Path) -> str:
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
