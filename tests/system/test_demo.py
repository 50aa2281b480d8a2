"""The demonstration, as a newcomer runs it."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest

from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S
from tests.system.test_cli import Shell, assert_one_line, messages
from tests.system.test_cli_dev import children_of, gone

pytestmark = pytest.mark.system


async def ended(process: Process) -> int:
    async with asyncio.timeout(SCENE_S):
        return await process.wait()


def row(process: Process, start: str) -> list[str]:
    """The cells of the table's row that begins so."""
    [line] = [line for line in process.out if line.startswith(start) and "%" not in line]
    return re.split(r"\s{2,}", line.strip())


async def test_shows_two_kills_and_two_clients_that_saw_everything(stage: Stage) -> None:
    process = await stage.orbit("demo")
    assert await ended(process) == 0, process.tail(200)
    out = "\n".join(process.out)
    assert "\x1b" not in out
    assert re.search(r"^worker \d \(ran the job\)\s+\d+\s", out, re.MULTILINE), out
    assert re.search(r"^edge 1 \(served client 1\)\s+\d+\s", out, re.MULTILINE), out
    for client, edges in (("client 1", "1, then 2"), ("client 2", "2")):
        name, by, workers, *rest = row(process, client)
        assert (name, by, rest) == (client, edges, ["240 of 240", "0", "0", "0", "finished"])
        assert int(workers) >= 2, "a busy machine may cost another worker its lease"
    assert "All is well" in out
    assert not process.said, process.tail()


async def test_a_dropped_update_is_found(stage: Stage) -> None:
    process = await stage.orbit("demo", "--size-mb", "4", env={"ORBIT_DEMO_SABOTAGE": "drop-update"})
    assert await ended(process) == 1, process.tail(200)
    assert "client 2: 1 updates missing" in assert_one_line(process)
    assert row(process, "client 1")[4] == "0"
    assert row(process, "client 2")[4] == "1"


async def test_kept_it_runs_until_it_is_told_to_end(stage: Stage) -> None:
    process = await stage.orbit("demo", "--size-mb", "4", "--keep")
    async with asyncio.timeout(SCENE_S):
        line = await process.says("orbit tail")
    _, _, tx, _, url = line.split()[-5:]
    below = list(children_of(process.pid))
    assert len(messages(await Shell(stage, ("--url", url)).run("tail", tx))) == 240
    process.signal(signal.SIGINT)
    assert await ended(process) == 0, process.tail()
    await gone(below)


async def test_interrupted_it_leaves_nothing_behind(stage: Stage) -> None:
    process = await stage.orbit("demo")
    await process.says("20 %")
    below = list(children_of(process.pid))
    process.signal(signal.SIGINT)
    assert await ended(process) == 130, process.tail()
    await gone(below)
