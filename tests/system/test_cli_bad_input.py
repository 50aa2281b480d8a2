"""Whatever can't be done is one line on stderr, a status that isn't 0, and no traceback."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from tests.support.processes import Stage, free_port
from tests.system.conftest import STATES
from tests.system.test_cli import assert_one_line

pytestmark = pytest.mark.system

APP = str(STATES / "cli_states.py")
NOWHERE = "redis://127.0.0.1:1/0"
TX = "0123456789abcdef"


async def refused(stage: Stage, *arguments: str, within_s: float = 30, **env: str) -> tuple[int, str]:
    """Its status and its one line."""
    process = await stage.orbit(*arguments, env={"XDG_RUNTIME_DIR": str(stage.folder), **env})
    async with asyncio.timeout(within_s):
        status = await process.wait()
    assert status > 0, process.tail()
    assert not process.out, process.tail()
    return status, assert_one_line(process)


@pytest.mark.parametrize("arguments", [("nothing",), ("ls", "--wrong"), ("edge",)], ids=" ".join)
async def test_a_wrong_command_line(stage: Stage, arguments: tuple[str, ...]) -> None:
    status, _ = await refused(stage, *arguments)
    assert status == 2


@pytest.mark.parametrize("url", ["http://no-redis", "nonsense", "redis://127.0.0.1:port/0"])
async def test_a_redis_that_is_no_url(stage: Stage, url: str) -> None:
    commands = [("worker", APP), ("edge",), ("ls",), ("dev", APP)]
    await asyncio.gather(*(refused(stage, *command, "--redis", url) for command in commands))


@pytest.mark.parametrize("where", [("--redis", NOWHERE), ("--url", "http://127.0.0.1:1")], ids=lambda value: value[0])
async def test_nobody_is_there(stage: Stage, where: tuple[str, str]) -> None:
    commands = [
        ("start", "Quick"),
        ("tail", TX),
        ("send", TX, "data"),
        ("cancel", TX),
        ("result", TX),
        ("ls",),
        ("show", TX),
    ]
    for _, line in await asyncio.gather(*(refused(stage, *command, *where) for command in commands)):
        assert "127.0.0.1:1" in line


async def test_dev_exits_where_redis_is_not_there(stage: Stage) -> None:
    _, line = await refused(stage, "dev", APP, "--redis", NOWHERE)
    assert "127.0.0.1:1" in line


@pytest.mark.parametrize("command", [("worker", APP), ("edge", "--port", "0")], ids=lambda value: value[0])
async def test_worker_and_edge_wait_for_redis_and_say_so(stage: Stage, command: tuple[str, ...]) -> None:
    port = free_port()
    process = await stage.orbit(*command, "--redis", f"redis://127.0.0.1:{port}/0")
    await process.says(f"127.0.0.1:{port}")
    assert process.alive
    assert await process.terminate() == 0, process.tail()


async def test_a_port_in_use(stage: Stage) -> None:
    server = await stage.embedded()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (("edge", "--redis", server.url), ("dev", APP)):
            _, line = await refused(stage, *command, "--port", str(port))
            assert str(port) in line


async def test_only_loopback_without_tokens(stage: Stage) -> None:
    server = await stage.embedded()
    for command in (("edge", "--redis", server.url), ("dev", APP)):
        _, line = await refused(stage, *command, "--port", "0", "--host", "0.0.0.0")
        assert "--insecure" in line


BAD_APPS = {
    "missing.py": None,
    "broken.py": "import nothing_of_this_name\n",
    "syntax.py": "class (:\n",
    "exits.py": "raise SystemExit(0)\n",
    "empty.py": "x = 1\n",
    "runless.py": "from orbit import State\nclass Runless(State):\n    x: int = 1\n",
    "odd.py": (
        "from typing import Any\nfrom orbit import State\nfrom pydantic import Field\n"
        "class Odd(State, stays_open=True):\n    secret: int = Field(default=1, exclude=True)\n"
    ),
    "shifting.py": (
        "from orbit import State\nfrom pydantic import field_validator\n"
        "class Shifting(State, stays_open=True):\n    word: str = 'x'\n"
        "    @field_validator('word')\n    @classmethod\n    def longer(cls, word):\n        return word + '!'\n"
    ),
}
NAMES = {
    "missing.py": "missing.py",
    "broken.py": "nothing_of_this_name",
    "syntax.py": "SyntaxError",
    "exits.py": "exits.py",
    "empty.py": "no State",
    "runless.py": "Runless",
    "odd.py": "secret",
    "shifting.py": "word",
}


@pytest.mark.parametrize("app", BAD_APPS)
@pytest.mark.parametrize("command", ["worker", "dev"])
async def test_an_app_that_cannot_run(stage: Stage, tmp_path: Path, command: str, app: str) -> None:
    text = BAD_APPS[app]
    if text is not None:
        (tmp_path / app).write_text(text)
    where = ("--redis", NOWHERE) if command == "worker" else ("--port", "0")
    status, line = await refused(stage, command, str(tmp_path / app), *where)
    assert status == 3
    assert NAMES[app] in line


@pytest.mark.parametrize("app", ["no.such.module", "json", f"{STATES / 'cli_states.py'}:Nobody"])
async def test_a_module_that_cannot_run(stage: Stage, app: str) -> None:
    status, line = await refused(stage, "worker", app, "--redis", NOWHERE)
    assert status == 3
    assert app in line


async def test_an_orbit_py_of_the_user_is_not_taken_for_orbit(stage: Stage, tmp_path: Path) -> None:
    """A file of that name beside the State is what newcomers write."""
    (tmp_path / "orbit.py").write_text("raise RuntimeError('not me')\n")
    (tmp_path / "states.py").write_text((STATES / "cli_states.py").read_text())
    program = Path(sys.executable).with_name("orbit")
    process = await stage.spawn("orbit", str(program), "dev", "states.py", "--port", "0")
    await process.ready()
    assert await process.terminate() == 0, process.tail()
