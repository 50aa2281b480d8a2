"""The table of branches: each branch of each script has a test that goes through it.

A test names what it covers with `@covers(script, *branches)`, and fails where it didn't go there (see conftest).
"""

from __future__ import annotations

import importlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

from orbit.store import script
from tests.contract import branches

_FOLDER = files("orbit.store") / "scripts"
SCRIPTS = sorted(one.name for one in vars(script).values() if isinstance(one, script.Script))


def table() -> set[str]:
    """All that the suite's tests say they cover."""
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f"tests.contract.{path.stem}")
        for test in vars(module).values():
            for mark in getattr(test, "pytestmark", []):
                if mark.name == "covers":
                    found |= {f"{mark.args[0]}: {branch}" for branch in mark.args[1:]}
    return found


def test_each_branch_is_covered_and_each_that_is_covered_exists() -> None:
    assert table() == branches.all_branches()


def test_each_script_is_a_file_and_each_file_a_script() -> None:
    files_there = {file.name.removesuffix(".lua") for file in _FOLDER.iterdir() if file.name.endswith(".lua")}
    assert files_there == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_opens_with_its_contract(name: str) -> None:
    text = (_FOLDER / f"{name}.lua").read_text("utf-8")
    head = re.match(r"(--.*\n)+", text)
    assert head is not None
    assert head[0].startswith(f"-- {name}: ")
    for part in ("-- KEYS 1", "-- Answers: "):
        assert part in head[0]
    assert ("ARGV" in text.removeprefix(head[0])) <= ("-- ARGV 1" in head[0])


def test_a_script_that_only_reads_writes_nothing() -> None:
    writing = re.compile(r"redis\.call\('(XADD|XDEL|XTRIM|HSET|HDEL|HINCRBY|ZADD|ZREM|SET|UNLINK|SPUBLISH)'")
    reading = {one for one in vars(script).values() if isinstance(one, script.Script) and not one.writes}
    for one in reading:
        own = (_FOLDER / f"{one.name}.lua").read_text("utf-8")
        assert not writing.search(own), one.name
