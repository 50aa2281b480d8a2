"""`orbit dev`: what it starts, keeps alive and takes down."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.processes import Process, Stage
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES
from tests.system.test_cli import APP, Shell, id_of, messages

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples"
COUNTER = """
import asyncio
from orbit import State


class Counter(State, stays_open=True):
    n: int = 0

    async def run(self) -> None:
        while True:
            self.n += 1
            await self.transaction.send_update("VERSION")
            await asyncio.sleep(0.05)
"""


def children_of(pid: int) -> dict[int, str]:
    """All processes below one, with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        for child, parent in parents.items():
            if parent == above:
                waiting.append(child)
                found[child] = (Path("/proc") / str(child) / "cmdline").read_text().replace("\0", " ")
    return found


async def gone(pids: list[int]) -> None:
    """Return when none of them is there any more."""
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(watched, ended.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)


@asynccontextmanager
async def dev(stage: Stage, app: str | Path, *options: str) -> AsyncIterator[tuple[Process, Shell]]:
    """A running `orbit dev`, and a terminal beside it in which nothing is said of where it is."""
    yield await stage.dev(app, *options), Shell(stage, ())


@pytest.fixture(autouse=True)
def runtime(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(stage.folder))


async def test_another_terminal_finds_it(stage: Stage) -> None:
    async with dev(stage, APP, "--workers", "2") as (process, shell):
        tx = id_of(await shell.run("start", "Quick"))
        assert messages(await shell.run("tail", tx)) == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert messages(await shell.run("result", tx, "--url", process.url)) == [{"sent": 3}]
        assert "workers=2" in process.ready_line
        assert await process.terminate() == 0
        await shell.run("ls", status=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_takes_everything_down(stage: Stage, number: signal.Signals) -> None:
    async with dev(stage, APP, "--workers", "2") as (process, shell):
        await shell.run("start", "Patient")
        below = children_of(process.pid)
        assert sum(" worker " in command for command in below.values()) == 2
        assert sum(" edge " in command for command in below.values()) == 1
        process.signal(number)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0, process.tail()
        await gone(list(below))
        assert "Traceback" not in process.tail(200)


async def test_nothing_outlives_it(stage: Stage) -> None:
    async with dev(stage, APP, "--workers", "2") as (process, _):
        below = list(children_of(process.pid))
        assert len(below) >= 4
        process.signal(signal.SIGKILL)
        await process.wait()
        await gone(below)


async def test_a_second_signal_exits_at_once(stage: Stage) -> None:
    async with dev(stage, STATES / "pulse.py", "--drain-s", "60") as (process, shell):
        tx = id_of(await shell.run("start", "Stuck"))
        await shell.run("send", tx, "stick")
        await shell.run("send", tx, "again")
        below = list(children_of(process.pid))
        process.signal(signal.SIGINT)
        await process.says("draining")
        process.signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 128 + signal.SIGINT
        await gone(below)


async def test_a_worker_that_dies_is_started_again(stage: Stage) -> None:
    async with dev(stage, APP, "--lease-s", "1") as (process, shell):
        [worker] = [pid for pid, command in children_of(process.pid).items() if " worker " in command]
        os.kill(worker, signal.SIGKILL)
        await process.says("was killed by SIGKILL")
        tx = id_of(await shell.run("start", "Quick"))
        assert messages(await shell.run("result", tx)) == [{"sent": 3}]


async def test_an_edge_that_dies_comes_back_where_it_was(stage: Stage) -> None:
    async with dev(stage, APP) as (process, shell):
        tx = id_of(await shell.run("start", "Room"))
        tail = await shell.begin("tail", tx, "--url", process.url)
        await shell.run("send", tx, "before")
        await tail.says("before")
        [edge] = [pid for pid, command in children_of(process.pid).items() if " edge " in command]
        os.kill(edge, signal.SIGKILL)
        await process.says("edge: was killed by SIGKILL")
        await shell.run("send", tx, "after")
        await shell.run("send", tx, "close")
        async with asyncio.timeout(PATIENCE_S):
            assert await tail.wait() == 0, tail.tail()
        assert [one["heard"] for one in messages(list(tail.out))] == ["before", "after"]


async def test_tokens_can_be_tried(stage: Stage, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    bare = Shell(stage, ())
    keys.write_text("\n".join(await bare.run("keys")))
    keys.chmod(0o600)
    made = ("token", "--token-keys", str(keys), "--can", "list")
    mine, other = [(await bare.run(*made, "--audience", name))[0] for name in ("here", "elsewhere")]
    async with dev(stage, APP, "--token-keys", str(keys), "--audience", "here") as (process, shell):
        statuses = {}
        for token in (mine, other, None):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            statuses[token] = (await stage.http.get(f"{process.url}/v1/transactions", headers=headers)).status_code
        assert statuses == {mine: 200, other: 401, None: 401}
        assert await shell.run("ls") == [], "over Redis no token is asked for"


async def test_reloads_on_change(stage: Stage, tmp_path: Path) -> None:
    app = tmp_path / "app" / "counter.py"
    app.parent.mkdir()
    app.write_text(COUNTER.replace("VERSION", "old"))
    async with dev(stage, app, "--reload") as (process, shell):
        tail = await shell.begin("tail", id_of(await shell.run("start", "Counter")))
        await tail.says("old")
        app.write_text("this is no Python\n")
        await process.says("it starts again when the code changes")
        app.write_text(COUNTER.replace("VERSION", "new"))
        await tail.says("new")
        out = messages(list(tail.out))
        assert out == sorted(out, reverse=True)
        assert await process.terminate() == 0, process.tail()


async def test_what_children_print_has_their_name_in_front(stage: Stage, tmp_path: Path) -> None:
    app = tmp_path / "loud.py"
    app.write_text(app_text() + "\n\nprint('hello from the app')\n")
    async with dev(stage, app, "--workers", "2") as (process, _):
        assert (await process.says("hello from the app")).split("|")[0].strip().startswith("worker ")


def app_text() -> str:
    return (STATES / "cli_states.py").read_text()


@pytest.mark.parametrize(
    ("example", "state", "fields", "first"),
    [("counter.py", "Counter", '{"total": 2}', 1), ("chat.py", "Room", '{"topic": "tea"}', None)],
)
async def test_the_examples_run(stage: Stage, example: str, state: str, fields: str, first: object) -> None:
    async with dev(stage, EXAMPLES / example) as (_, shell):
        tx = id_of(await shell.run("start", state, "--input", fields))
        if first is None:
            await shell.run("send", tx, '{"say": "hello"}')
            await shell.run("send", tx, "close")
        out = messages(await shell.run("tail", tx))
        assert out[0] == (first or {"line": "hello", "by": None})


async def test_the_download_example_runs(stage: Stage, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(2_500_000))
    files = await stage.spawn("files", sys.executable, "-m", "orbit.cli.demo.files", str(source), "1e9")
    url = (await files.ready()).ready_line.split()[-1]
    async with dev(stage, EXAMPLES / "download.py") as (_, shell):
        out = await shell.run("start", "Download", "--input", f'{{"url": "{url}"}}', "--follow")
        updates = messages(out[1:])
    assert [one["bytes"] for one in updates] == [1_048_576, 2_097_152, 2_500_000]
    assert updates[-1]["sha256"] == hashlib.sha256(source.read_bytes()[2_097_152:]).hexdigest()
