"""Where a command looks for its deployment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orbit.cli.deployment import _chosen, _running
from orbit.cli.dev import source_directory, without_password
from orbit.cli.failures import CommandError
from orbit.cli.running import Running, announced
from orbit.cli.where import Where

REDIS, URL = "redis://localhost", "http://localhost:8000"


@pytest.mark.parametrize(
    ("redis", "url", "environment", "chosen"),
    [
        (REDIS, None, {}, (REDIS, None)),
        (None, URL, {}, (None, URL)),
        (None, None, {}, (None, None)),
        (REDIS, URL, {"ORBIT_REDIS": REDIS}, (None, URL)),
        (REDIS, URL, {"ORBIT_URL": URL}, (REDIS, None)),
    ],
)
def test_the_command_line_goes_before_the_environment(
    redis: str | None,
    url: str | None,
    environment: dict[str, str],
    chosen: tuple[str | None, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ORBIT_REDIS", "ORBIT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _chosen(Where(redis, url, "orbit", None)) == chosen


@pytest.mark.parametrize("environment", [{}, {"ORBIT_REDIS": REDIS, "ORBIT_URL": URL}])
def test_both_is_a_question(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match="which of the two"):
        _chosen(Where(REDIS, URL, "orbit", None))


def test_the_one_that_runs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(CommandError, match="which deployment"):
        _running()
    with announced(Running(os.getpid(), URL, REDIS, "mine")):
        assert _running() == (REDIS, "mine")
        with announced(Running(1, "http://localhost:2", REDIS, "other")), pytest.raises(CommandError, match="several"):
            _running()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:1/0", "redis://localhost:1/0"),
        ("redis://me:secret@localhost:1/0", "redis://***@localhost:1/0"),
        ("unix:///tmp/s", "unix:///tmp/s"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_what_reload_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "single.py").touch()
    assert source_directory("package.module:State") == tmp_path / "package"
    assert source_directory("single") == tmp_path
    assert source_directory("single:State") == tmp_path
    assert source_directory(str(tmp_path / "package" / "file.py")) == tmp_path / "package"
    assert source_directory("email.message").name == "email"
    with pytest.raises(CommandError, match="nowhere"):
        source_directory("nowhere")
