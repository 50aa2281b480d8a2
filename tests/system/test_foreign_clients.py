"""Clients that aren't ours: the WebSocket command line of Python's websockets, and what npm has."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.processes import Stage
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
NPM = Path(__file__).parents[1] / "npm"


def plain_url(edge: str, tx: str) -> str:
    return f"{edge.replace('http', 'ws', 1)}/v1/transactions/{tx}/ws"


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    assert found, "node isn't on the PATH"
    assert (NPM / "node_modules").is_dir(), "make npm installs what these tests need"
    return found


async def test_the_command_line_of_websockets_shows_updates_and_sends(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edge.url, "Echo", limit=20, until=2)
    shown = await stage.spawn(
        "websockets", sys.executable, "-m", "websockets", plain_url(edge.url, tx), listens=True
    )
    async with asyncio.timeout(PATIENCE_S):
        await shown.says('{"n":20}')
        shown.hear("hello")
        await shown.says('{"heard":"hello"}')
        shown.hear("bye")
        await shown.says("Connection closed: 1000")
    answer = await stage.http.get(f"{edge.url}/v1/transactions/{tx}/result")
    assert answer.json() == {"status": "finished", "result": ["hello", "bye"]}


@pytest.mark.npm
async def test_ws_of_npm_shows_updates_and_sends(stage: Stage, node: str) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edge.url, "Echo", limit=20, until=2)
    url = plain_url(edge.url, tx)
    shown = await stage.spawn("ws", node, str(NPM / "plain.mjs"), url, listens=True)
    async with asyncio.timeout(PATIENCE_S):
        await shown.says('{"n":20}')
        shown.hear("hello")
        await shown.says('{"heard":"hello"}')
        shown.hear("bye")
        await shown.says("closed 1000 finished")
    assert list(shown.out)[:20] == [json.dumps({"n": n}, separators=(",", ":")) for n in range(1, 21)]
    nobody = await stage.spawn("ws", node, str(NPM / "plain.mjs"), plain_url(edge.url, "no-such-transaction"))
    async with asyncio.timeout(PATIENCE_S):
        await nobody.says("refused 404")


@pytest.mark.npm
async def test_an_event_source_resumes_over_a_killed_edge_with_every_update_once(
    stage: Stage, node: str, measured: Callable[[str], None]
) -> None:
    """It is never told where to go on: it names the last `id:` by itself, as a browser does."""
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edge.url, "Echo", limit=300, until=1)
    shown = await stage.spawn("events", node, str(NPM / "events.mjs"), f"{edge.url}/v1/transactions/{tx}/events")
    for count in (60, 150):
        await shown.says(f'"data":{{"n":{count}}}')
        await edge.kill()
        edge = await stage.edge(redis, "--port", str(urlsplit(edge.url).port))
    await shown.says('"data":{"n":300}')
    await stage.http.post(f"{edge.url}/v1/transactions/{tx}/messages", json={"data": "bye"})
    async with asyncio.timeout(PATIENCE_S):
        assert await shown.wait() == 0, shown.tail()
    told = [json.loads(line) for line in shown.out]
    assert [one["data"]["data"]["n"] for one in told if one["type"] == "update"] == list(range(1, 301))
    assert [one["type"] for one in told if one["type"] == "attached"] == ["attached"] * 3
    assert (told[-1]["type"], told[-1]["data"]["status"]) == ("end", "finished")
    breaks = sum(one["type"] == "broken" for one in told)
    assert breaks >= 2
    measured(f"300 updates over 3 edges and {breaks} broken connections, each once and in order")
