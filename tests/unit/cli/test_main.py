"""A wrong command line is one line that names what is wrong, whatever the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbit.cli.main import run
from tests.unit.cli.refusals import check_refused

APP = "states.py"
NOWHERE = "redis://127.0.0.1:1/0"
TX = "0123456789abcdef"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("ORBIT_REDIS", "ORBIT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("nothing",), "nothing"),
        (("ls", "--wrong"), "--wrong"),
        (("worker", "--wrong", APP), "--wrong"),
        (("edge", "--redis", NOWHERE, "--port", "high"), "--port"),
        (("edge", "--redis", NOWHERE, "--port", "70000"), "65535"),
        (("dev", APP, "--workers", "0"), "--workers"),
        (("start",), "STATE"),
        (("start", "Quick", "--redis", NOWHERE, "--input", "{"), "--input"),
        (("start", "Quick", "--redis", NOWHERE, "--input", "[1]"), "--input"),
        (("start", "Quick", "--redis", NOWHERE, "--input", '{"n": NaN}'), "--input"),
        (("start", "Quick", "--redis", NOWHERE, "--input", '{"n": 1e999}'), "--input"),
        (("start", "Quick", "--redis", NOWHERE, "--id", "short"), "--id"),
        (("send", TX, "1e999", "--redis", NOWHERE), "DATA"),
        (("tail", TX, "--redis", NOWHERE, "--after", "then"), "--after"),
        (("worker", APP), "--redis"),
        (("edge",), "--redis"),
        (("ls",), "--redis"),
        (("ls", "--redis", NOWHERE, "--url", "http://127.0.0.1:1"), "which of the two"),
        (("worker", APP, "--redis", NOWHERE, "--log-level", "loud"), "--log-level"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line(arguments: tuple[str, ...], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(arguments, names, capsys)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("dev", "--help"), ("start", "--help")], ids=" ".join)
def test_help(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert "Usage: orbit" in out
    assert err == ""


def test_the_list_of_commands_is_whole_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "..." not in out.partition("Commands:")[2], "what is cut off says nothing"
    assert max(map(len, out.splitlines())) <= 80
    assert "ORBIT_LEASE_S" in out


@pytest.mark.parametrize(
    ("typed", "shell", "offered"),
    [("orbit wor", "bash", "worker"), ("orbit edge --tok", "zsh", "--token-keys"), ("orbit st", "fish", "start")],
)
def test_a_shell_is_told_how_to_go_on(
    typed: str, shell: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_ORBIT_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", typed)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit) as exit:
        run([])
    assert exit.value.code == 0
    assert offered in capsys.readouterr().out


def test_an_option_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORBIT_AFTER", "no cursor")
    assert run(["tail", TX, "--redis", NOWHERE]) == 2
    assert "no cursor" in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of its\nown")

    monkeypatch.setattr("orbit.cli.talk.asked", broken)
    assert run(["cancel", TX, "--redis", NOWHERE]) == 1
    assert capsys.readouterr().err == "orbit: unexpected ZeroDivisionError: of its own (ORBIT_TRACE=1 shows where)\n"
