"""`orbit keys` and `orbit token`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orbit.cli.main import run
from orbit.edge.access import Access
from orbit.edge.access.keyfile import KeyFile
from tests.unit.cli.refusals import check_refused

TX, OTHER = "t" * 16, "o" * 16


def made(path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Path:
    assert run(("keys", *arguments)) == 0
    path.write_text(capsys.readouterr().out)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "HS256"])
def test_a_token_by_new_keys(alg: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = made(tmp_path / "keys.json", capsys, "--alg", alg)
    arguments = ("token", "--token-keys", str(keys), "--tx", TX, "--tx", OTHER, "--can", "watch,send", "--ttl-s", "60")
    assert run((*arguments, "--sub", "ann")) == 0
    access = Access(KeyFile(keys))
    rights = access.of_token(capsys.readouterr().out.strip())
    assert (rights.sub, rights.tx, rights.can) == ("ann", {TX, OTHER}, {"watch", "send"})
    assert 0 < access.left_s(rights) <= 61


def test_a_token_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = made(tmp_path / "keys.json", capsys)
    assert run(("token", "--token-keys", str(keys), "--tx", "*", "--can", "list", "--audience", "here")) == 0
    rights = Access(KeyFile(keys), "here").of_token(capsys.readouterr().out.strip())
    assert (rights.sub, rights.tx, rights.can) == (None, None, {"list"})


def test_a_token_about_no_transaction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = made(tmp_path / "keys.json", capsys)
    assert run(("token", "--token-keys", str(keys), "--can", "start,list")) == 0
    rights = Access(KeyFile(keys)).of_token(capsys.readouterr().out.strip())
    assert (rights.tx, rights.can) == (frozenset(), {"start", "list"})


def test_public_keys_verify_and_do_not_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = made(tmp_path / "keys.json", capsys, "--alg", "ES256")
    public = made(tmp_path / "public.json", capsys, "--public", str(keys))
    assert "d" not in json.loads(public.read_text())["keys"][0]
    assert run(("token", "--token-keys", str(keys), "--tx", TX, "--can", "watch")) == 0
    assert Access(KeyFile(public)).of_token(capsys.readouterr().out.strip()).may("watch", TX)
    assert run(("token", "--token-keys", str(public), "--tx", TX)) == 1
    assert "can't sign" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("keys", "--alg", "none"), "EdDSA"),
        (("token", "--tx", TX), "--token-keys"),
        (("token", "--token-keys", "/nowhere/keys.json", "--tx", TX), "/nowhere/keys.json"),
        (("token", "--token-keys", "/dev/null", "--tx", TX), "JSON"),
        (("token", "--token-keys", "/dev/null", "--tx", "short"), "--tx"),
        (("token", "--token-keys", "/dev/null"), "--tx"),
        (("token", "--token-keys", "/dev/null", "--can", "start,send"), "send? Say --tx"),
        (("token", "--token-keys", "/dev/null", "--tx", TX, "--can", "fly"), "fly"),
        (("token", "--token-keys", "/dev/null", "--tx", TX, "--ttl-s", "0"), "--ttl-s"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_can_not_be_done(arguments: tuple[str, ...], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(arguments, names, capsys)
