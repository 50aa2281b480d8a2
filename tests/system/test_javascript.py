"""The client in plain JavaScript that the docs show, in Node, while its edges are killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.processes import Stage
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
FOLDER = Path(__file__).parents[2] / "examples" / "javascript"
SPEAKER = """
import {{ Follower }} from {module};
const [id, ...urls] = process.argv.slice(2);
const follower = new Follower(urls, id, (message) => {{
  console.log(JSON.stringify(message));
  if (message.type === "update" && message.data.n % 10 === 0) follower.send(message.data.n);
  if (message.type === "end") process.exitCode = 0;
}});
"""


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None and not os.environ.get("CI"):
        pytest.skip("needs Node 20 or newer")
    assert found, "node isn't on the PATH"
    return found


async def test_no_gap_no_repeat_and_each_message_once(stage: Stage, tmp_path: Path, node: str) -> None:
    redis = (await stage.embedded()).url
    edges = [await stage.edge(redis) for _ in range(2)]
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edges[0].url, "Echo")
    script = tmp_path / "speaker.mjs"
    script.write_text(SPEAKER.format(module=json.dumps((FOLDER / "follower.mjs").as_uri())))
    urls = [edge.url for edge in edges]
    speaker = await stage.spawn("node", node, "--experimental-websocket", str(script), tx, *urls)
    for count, edge in ((60, edges[0]), (150, edges[1])):
        await speaker.says(f'{{"n":{count}}}')
        await edge.kill()
        await stage.edge(redis, "--port", str(urlsplit(edge.url).port))
    async with asyncio.timeout(60):
        assert await speaker.wait() == 0, speaker.tail()
    told = [json.loads(line) for line in speaker.out]
    updates = [message["data"] for message in told if message["type"] == "update"]
    tens = list(range(10, 301, 10))
    assert [data["n"] for data in updates if "n" in data] == list(range(1, 301))
    assert [data["heard"] for data in updates if "heard" in data] == tens
    assert (told[-1]["type"], told[-1]["result"]) == ("end", tens)
    assert not [message for message in told if message["type"] in ("lost", "reset", "error", "rejected")]


async def test_the_command_prints_updates_and_sends_lines(stage: Stage, node: str) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edge.url, "Echo", limit=3, until=1)
    line = f'echo hello | "$0" --experimental-websocket "$1" {tx} {edge.url}'
    process = await stage.spawn("sh", "/bin/sh", "-c", line, node, str(FOLDER / "follow.mjs"))
    async with asyncio.timeout(30):
        assert await process.wait() == 0, process.tail()
    assert '{"heard":"hello"}' in process.out
