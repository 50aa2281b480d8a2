"""A running `orbit dev` is found for as long as it runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orbit.cli import running
from orbit.cli.running import Running


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def one(pid: int) -> Running:
    return Running(pid, f"http://127.0.0.1:{pid}", "unix:///s", "orbit")


def test_is_found_while_it_runs() -> None:
    assert running.find() == []
    with running.announced(one(1)), running.announced(one(2)):
        assert running.find() == [one(1), one(2)]
    assert running.find() == []


def test_a_file_without_its_process_is_stale_and_goes(runtime: Path) -> None:
    with running.announced(one(1)):
        left = (runtime / "orbit" / "dev-1.json").read_text()
    stale = runtime / "orbit" / "dev-1.json"
    stale.write_text(left)
    assert running.find() == []
    assert not stale.exists()


def test_only_the_user_can_read_it(runtime: Path) -> None:
    with running.announced(one(1)):
        assert stat.S_IMODE((runtime / "orbit").stat().st_mode) == 0o700


def test_a_directory_that_others_can_write_is_not_believed(runtime: Path) -> None:
    (runtime / "orbit").mkdir()
    os.chmod(runtime / "orbit", 0o777)
    with running.announced(one(1)):
        assert running.find() == []
