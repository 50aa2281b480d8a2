"""A server that can't hold the deployment: every process says so in one line that tells what to do, and exits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from orbit.verify.proxy import Proxy
from tests.support.processes import Process, Stage, free_port
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

APP = str(STATES / "recipe.py")
COMMANDS = {
    "worker": ("worker", APP),
    "edge": ("edge", "--port", "0"),
    "ls": ("ls",),
    "dev": ("dev", APP, "--port", "0"),
}


async def all_refused(stage: Stage, url: str, commands: Iterable[str] = COMMANDS, **env: str) -> list[str]:
    """As `refused`, for several commands at once."""
    return list(await asyncio.gather(*(refused(stage, command, url, **env) for command in commands)))


async def refused(stage: Stage, command: str, url: str, **env: str) -> str:
    """The one line with which a process refuses; it mustn't exit with 0."""
    process: Process = await stage.orbit(*COMMANDS[command], "--redis", url, env=env)
    async with asyncio.timeout(PATIENCE_S):
        code = await process.wait()
    lines = [line for line in process.said if line.strip()]
    assert code != 0, process.tail()
    assert lines, f"it exits with {code} and says nothing"
    assert not any("Traceback" in line for line in lines), process.tail()
    assert len([line for line in lines if line.startswith("orbit")]) == 1, process.tail()
    return lines[-1]


def too_old(data: bytes) -> bytes:
    """Same lengths, another version: 6.2 of Redis, and no word of Valkey."""
    for version in (b"7.", b"8.", b"9."):
        data = data.replace(b"_version:" + version, b"_version:6.")
        data = data.replace(b"version\r\n$5\r\n" + version, b"version\r\n$5\r\n6.")
    return data.replace(b"valkey", b"xalkey")


async def test_too_old(stage: Stage) -> None:
    server = await stage.embedded()
    async with Proxy.before(server.url) as proxy:
        proxy.rewrite = too_old
        lines = await all_refused(stage, proxy.url)
    assert all("7.0" in line for line in lines), lines


async def test_another_partition_count(stage: Stage) -> None:
    server = await stage.embedded()
    edge = await stage.edge(server.url, "--partitions", "8")
    await edge.terminate()
    lines = await all_refused(stage, server.url, ("worker", "edge", "dev"), ORBIT_PARTITIONS="16")
    assert all("8" in line and "16" in line for line in lines), lines


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (("-@scripting",), "script"),
        (("-@pubsub",), "spublish"),
        (("resetchannels",), "channel"),
        (("resetkeys", "~other:*"), "key"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
async def test_rules_that_forbid_what_is_needed(stage: Stage, rules: tuple[str, ...], named: str) -> None:
    server = await stage.embedded()
    async with redis.asyncio.from_url(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "orbit", "on", ">secret", "~*", "&*", "+@all", *rules)
    lines = await all_refused(stage, _as(server.url, "orbit", "secret"))
    assert all(named in line.lower() for line in lines), lines
    assert not any("secret" in line for line in lines), lines
    # What was refused half way stands in nobody's way.
    await stage.edge(server.url)


async def test_a_wrong_password(stage: Stage) -> None:
    server = await stage.embedded()
    lines = await all_refused(stage, _as(server.url, "nobody", "wordless"))
    assert not any("wordless" in line for line in lines), lines


def _as(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{user}:{password}@{parts.path}"
    return f"redis://{user}:{password}@{parts.hostname}:{parts.port}/0"


async def test_a_command_says_that_nobody_is_there(stage: Stage) -> None:
    line = await refused(stage, "ls", f"redis://127.0.0.1:{free_port()}/0")
    assert "127.0.0.1" in line


@pytest.mark.parametrize("command", ["worker", "edge"])
async def test_a_server_process_waits_for_redis_and_says_so(stage: Stage, command: str) -> None:
    port = free_port()
    process = await stage.orbit(*COMMANDS[command], "--redis", f"redis://127.0.0.1:{port}/0")
    async with asyncio.timeout(PATIENCE_S):
        while not process.said:
            assert process.alive, process.tail()
            await asyncio.sleep(0.02)
    assert process.alive
    server = await stage.embedded()
    async with asyncio.timeout(PATIENCE_S):
        await _forward(port, server.url, process)


async def _forward(port: int, url: str, process: Process) -> None:
    """Redis comes up, at the port where the process looks for it."""
    async with Proxy.before(url, listen=port):
        await process.ready()
        assert await process.terminate() == 0, process.tail()
