"""Each command as a process of its own, over Redis and over an edge."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Process, Stage
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

APP = STATES / "cli_states.py"


@dataclass(frozen=True)
class Shell:
    """A terminal in which `orbit` is told where its deployment is."""

    stage: Stage
    where: tuple[str, str]

    async def begin(self, *arguments: str, **env: str) -> Process:
        """Start a command; returns at once."""
        return await self.stage.orbit(*arguments, *self.where, env=env)

    async def run(self, *arguments: str, status: int = 0, **env: str) -> list[str]:
        """Run a command to its end; what it printed on stdout."""
        process = await self.begin(*arguments, **env)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == status, process.tail()
        if status:
            assert_one_line(process)
        return list(process.out)


def assert_one_line(process: Process) -> str:
    """One line on stderr, and it is no traceback; returned."""
    lines = [line for line in process.said if line.strip()]
    assert len(lines) == 1, process.tail()
    assert lines[0].startswith("orbit: "), process.tail()
    return lines[0]


@pytest.fixture(params=["--redis", "--url"])
async def shell(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Shell]:
    server = await stage.embedded()
    _, edge = await asyncio.gather(stage.worker(APP, server.url), stage.edge(server.url))
    return Shell(stage, (request.param, server.url if request.param == "--redis" else edge.url))


def id_of(out: list[str]) -> str:
    """`start` prints the id alone."""
    assert len(out) == 1
    assert 16 <= len(out[0]) <= 64
    return out[0]


def messages(out: list[str]) -> list[Any]:
    return [json.loads(line) for line in out]


async def test_start_tail_and_result(shell: Shell) -> None:
    tx = id_of(await shell.run("start", "Quick", "--input", '{"total": 3}'))
    assert messages(await shell.run("tail", tx)) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert messages(await shell.run("result", tx)) == [{"sent": 3}]

    wire = [one for one in messages(await shell.run("tail", tx, "--json")) if one["type"] in ("update", "end")]
    assert [one["type"] for one in wire] == ["update", "update", "update", "end"]
    assert all(one["tx"] == tx for one in wire)
    assert wire[-1]["status"] == "finished"
    assert wire[-1]["result"] == {"sent": 3}
    assert messages(await shell.run("tail", tx, "--after", wire[1]["cursor"])) == [{"n": 3}]


async def test_start_follow_prints_the_id_and_then_the_updates(shell: Shell) -> None:
    out = await shell.run("start", "Quick", "--follow")
    assert messages(out[1:]) == [{"n": 1}, {"n": 2}, {"n": 3}]
    id_of(out[:1])


async def test_the_same_id_is_the_same_transaction(shell: Shell) -> None:
    mine = "my-very-own-identifier"
    assert await shell.run("start", "Quick", "--id", mine) == [mine]
    assert await shell.run("start", "Quick", "--id", mine) == [mine]
    await shell.run("start", "Quick", "--id", mine, "--input", '{"total": 9}', status=1)


async def test_an_id_and_data_may_look_like_options(shell: Shell) -> None:
    tx = "-follow-or--json0"
    assert await shell.run("start", "Room", f"--id={tx}") == [tx]
    await shell.run("send", tx, "-17")
    await shell.run("send", tx, "close")
    assert messages(await shell.run("tail", tx)) == [{"heard": -17}]


async def test_send_reaches_the_state(shell: Shell) -> None:
    tx = id_of(await shell.run("start", "Room"))
    for data in ('{"a": [1, null]}', "plain text", '"quoted"', "17"):
        assert await shell.run("send", tx, data) == []
    await shell.run("send", tx, "close")
    heard = [one["heard"] for one in messages(await shell.run("tail", tx))]
    assert heard == [{"a": [1, None]}, "plain text", "quoted", 17]
    assert messages(await shell.run("result", tx)) == ["closed"]
    await shell.run("send", tx, "too late", status=1)


async def test_cancel(shell: Shell) -> None:
    tx = id_of(await shell.run("start", "Patient"))
    tail = await shell.begin("tail", tx, "--json")
    await shell.run("cancel", tx, "--reason", "enough")
    async with asyncio.timeout(PATIENCE_S):
        assert await tail.wait() == 1, tail.tail()
    assert json.loads(tail.out[-1])["status"] == "cancelled"
    assert assert_one_line(tail) == "orbit: cancelled: the transaction was cancelled"
    await shell.run("result", tx, status=1)
    await shell.run("cancel", tx, status=1)


async def test_a_failed_one_has_no_result(shell: Shell) -> None:
    tx = id_of(await shell.run("start", "Broken"))
    process = await shell.begin("result", tx)
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 1
    assert "failed" in assert_one_line(process)
    assert "it was meant to" in assert_one_line(process)


async def test_following_one_that_fails_fails_after_its_updates(shell: Shell) -> None:
    follow = await shell.begin("start", "Second", "--follow")
    async with asyncio.timeout(PATIENCE_S):
        assert await follow.wait() == 1
    tx, *updates = follow.out
    assert updates == ['"try 1"']
    assert "failed: " in assert_one_line(follow)
    assert "not yet" in assert_one_line(follow)
    assert await shell.run("tail", tx, status=1) == ['"try 1"']


async def test_retry(shell: Shell) -> None:
    tx = id_of(await shell.run("start", "Second"))
    await shell.run("result", tx, status=1)
    await shell.run("retry", tx)
    assert await shell.run("result", tx) == ["2"]
    assert await shell.run("tail", tx) == ['"try 1"', '"try 2"']
    await shell.run("retry", tx, status=1)


async def test_result_waits_no_longer_than_told(shell: Shell) -> None:
    tx = id_of(await shell.run("start", "Patient"))
    await shell.run("result", tx, "--wait-s", "0.2", status=1)


async def test_ls_and_show(shell: Shell) -> None:
    rooms = [id_of(await shell.run("start", "Room")) for _ in range(2)]
    quick = id_of(await shell.run("start", "Quick"))
    await shell.run("result", quick)

    assert {line.split("\t")[0] for line in await shell.run("ls")} == {*rooms, quick}
    listed = messages(await shell.run("ls", "--json", "--state", "Room"))
    assert {one["id"] for one in listed} == set(rooms)
    assert [one["id"] for one in messages(await shell.run("ls", "--json", "--status", "finished"))] == [quick]

    [shown] = messages(await shell.run("show", quick, "--json"))
    assert shown["id"] == quick
    assert shown["status"] == "finished"
    assert shown["result"] == {"sent": 3}
    assert shown["created_at"].endswith("Z")
    lines = dict(line.split(maxsplit=1) for line in await shell.run("show", quick))
    assert lines["state"] == "Quick"


async def test_where_may_come_from_the_environment(shell: Shell) -> None:
    option, value = shell.where
    bare = Shell(shell.stage, ("--limit", "10"))
    assert await bare.run("ls", **{f"ORBIT_{option.removeprefix('--').upper()}": value}) == []


async def test_what_the_deployment_refuses(shell: Shell) -> None:
    unknown = "0123456789abcdef"
    rows = [
        ("start", "Nobody"),
        ("start", "Quick", "--input", '{"total": "many"}'),
        ("tail", unknown),
        ("tail", "no id"),
        ("send", unknown, "data"),
        ("cancel", unknown),
        ("retry", unknown),
        ("result", unknown),
        ("show", unknown),
    ]
    assert await asyncio.gather(*(shell.run(*row, status=1) for row in rows)) == [[] for _ in rows]


async def test_who_reads_no_further_harms_nothing(shell: Shell, tmp_path: Path) -> None:
    tx = id_of(await shell.run("start", "Quick", "--input", '{"total": 2000}'))
    await shell.run("result", tx)
    command = f'"$0" -m orbit tail {tx} {" ".join(shell.where)} | head -n 1'
    process = await shell.stage.spawn("sh", "/bin/sh", "-c", command, sys.executable)
    async with asyncio.timeout(PATIENCE_S):
        await process.wait()
    assert messages(list(process.out)) == [{"n": 1}]
    assert not process.said, process.tail()
