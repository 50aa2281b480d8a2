"""The clients in plain JavaScript that docs and examples show, in Node, while their edges are killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.processes import Stage
from tests.support.waiting import PATIENCE_S, SCENE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = EXAMPLES / "javascript"
SPEAKER = """
import {{ Follower }} from {module};
const [id, ...urls] = process.argv.slice(2);
const follower = new Follower(urls, id, (message) => {{
  console.log(JSON.stringify(message));
  if (message.type === "update" && message.data.n % 10 === 0) follower.send(message.data.n);
  if (message.type === "end") process.exitCode = 0;
}});
"""
# A session goes on in a second client, as in a page that was loaded anew, and is spoken for over HTTP beside it.
RESUMED = """
import {{ Follower }} from "./follower.mjs";
const [id, url] = process.argv.slice(2);
const session = "a-secret-of-the-page";
const hear = (act) => (data) => {{ if (data.heard) act(data.heard); }};
const follow = (after, act, end) => {make};

const page = follow("0", hear(() => {{
  page.close();
  const again = follow(page.cursor, hear(async (word) => {{
    if (word !== "after the reload") return;
    const body = JSON.stringify({{ session, mid: 3, data: "by HTTP" }});
    const headers = {{ "Content-Type": "application/json" }};
    await fetch(`${{url}}/v1/transactions/${{id}}/messages`, {{ method: "POST", headers, body }});
    again.{socket}.close();
    again.send("after HTTP");
  }}), ({{ result }}) => {{ console.log(JSON.stringify(result)); process.exit(0); }});
  again.send("after the reload");
}}));
page.send("before");
"""
PLAIN = """new Follower([url], id, (m) => {
  if (m.type === "update") act(m.data);
  if (m.type === "end") end(m);
}, { session, after })"""
IMGUR = 'new Follower(url.replace("http", "ws") + "/v1/ws", id, { session, after, update: act, end })'


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
    async with asyncio.timeout(SCENE_S):
        assert await speaker.wait() == 0, speaker.tail()
    told = [json.loads(line) for line in speaker.out]
    updates = [message["data"] for message in told if message["type"] == "update"]
    tens = list(range(10, 301, 10))
    assert [data["n"] for data in updates if "n" in data] == list(range(1, 301))
    assert [data["heard"] for data in updates if "heard" in data] == tens
    assert (told[-1]["type"], told[-1]["result"]) == ("end", tens)
    assert not [message for message in told if message["type"] in ("lost", "reset", "error", "rejected")]


@pytest.mark.parametrize(
    ("source", "make", "socket"),
    [(FOLDER / "follower.mjs", PLAIN, "ws"), (EXAMPLES / "imgur" / "static" / "follower.js", IMGUR, "socket")],
    ids=["javascript", "imgur"],
)
async def test_a_used_session_goes_on_after_its_last_mid(
    source: Path, make: str, socket: str, stage: Stage, tmp_path: Path, node: str
) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edge.url, "Echo", limit=1, until=4)
    shutil.copy(source, tmp_path / "follower.mjs")
    script = tmp_path / "resumed.mjs"
    script.write_text(RESUMED.format(make=make, socket=socket))
    page = await stage.spawn("node", node, "--experimental-websocket", str(script), tx, edge.url)
    async with asyncio.timeout(PATIENCE_S):
        assert await page.wait() == 0, page.tail()
    assert json.loads(page.out[-1]) == ["before", "after the reload", "by HTTP", "after HTTP"]


async def test_the_command_prints_updates_and_sends_lines(stage: Stage, node: str) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edge.url, "Echo", limit=3, until=1)
    line = f'echo hello | "$0" --experimental-websocket "$1" {tx} {edge.url}'
    process = await stage.spawn("sh", "/bin/sh", "-c", line, node, str(FOLDER / "follow.mjs"))
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 0, process.tail()
    assert '{"heard":"hello"}' in process.out
