"""`orbit durability`: what is recorded is said and changed, on a server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from orbit.cli.main import run
from orbit.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(config={"appendfsync": "always"}) as server:
        yield server


@pytest.fixture
def deployment(server: EmbeddedServer) -> list[str]:
    return ["--redis", server.url, "--namespace", f"test-{uuid.uuid4().hex}"]


def test_it_is_said_and_changed(deployment: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["durability", *deployment]) == 0
    assert capsys.readouterr().out == "memory\n"
    assert run(["durability", "fsync", *deployment]) == 0
    told = capsys.readouterr()
    assert told.out == "fsync\n"
    assert "it was memory: start every worker, edge and application again" in told.err
    assert run(["durability", *deployment]) == 0
    assert capsys.readouterr().out == "fsync\n"
    assert run(["durability", "fsync", *deployment]) == 0
    assert capsys.readouterr() == ("fsync\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["paper"], "durability is one of memory, fsync, replicated, replicated-fsync"),
        (["memory", "--replicas", "2"], "leave --replicas out"),
        (["replicated"], "0 of 1 replicas had it in time"),
    ],
)
def test_what_can_t_be_is_one_line_and_changes_nothing(
    deployment: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run(["durability", *arguments, *deployment]) != 0
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert run(["durability", *deployment]) == 0
    assert capsys.readouterr().out == "memory\n"
