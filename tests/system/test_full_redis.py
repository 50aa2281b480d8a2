"""Redis has no memory left (`maxmemory`, `noeviction`): who asks is told so, who works waits, and all goes on later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orbit.verify.client import WireClient
from orbit.verify.trace import Message
from tests.support.processes import Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES
from tests.system.test_edges import judge

pytestmark = pytest.mark.system


def rejections(client: WireClient) -> list[Message]:
    return [event.message for event in client.trace.events if event.message.get("type") == "rejected"]


async def test_a_full_redis_refuses_and_then_goes_on(stage: Stage, measured: Callable[[str], None]) -> None:
    server = await stage.embedded(config={"maxmemory-policy": "noeviction"})
    edge = await stage.edge(server.url)
    worker = await stage.worker(STATES / "pulse.py", server.url, "--lease-s", "2")
    async with WireClient([edge.url], name="watcher") as client, asyncio.timeout(SCENE_S):
        busy = client.follow(await stage.start(edge.url, "Pulse", every_s=0.02))
        quiet = client.follow(await stage.start(edge.url, "Watchful"))
        await busy.until(lambda f: len(f.entries) > 10)
        await server.command("CONFIG", "SET", "maxmemory", "1")
        quiet.send("mark")
        await quiet.until(lambda _: rejections(client))
        refused = rejections(client)[0]
        answer = await stage.http.post(f"{edge.url}/v1/transactions", json={"state": "Pulse", "input": {}})
        sent = await stage.http.post(f"{edge.url}/v1/transactions/{quiet.tx}/messages", json={"data": "mark"})
        count = len(busy.entries)
        for process in (edge, worker):
            assert process.alive, process.tail()
        assert (await stage.http.get(f"{edge.url}/livez")).status_code == 200
        await server.command("CONFIG", "SET", "maxmemory", "0")
        begun = asyncio.get_running_loop().time()
        await quiet.until(lambda f: "marked" in f.updates)
        await busy.until(lambda f: len(f.entries) > count + 20)
        took = asyncio.get_running_loop().time() - begun
        for follower in (busy, quiet):
            follower.send("finish")
            await follower.until(lambda f: f.end is not None)
            await judge(edge.url, follower)
    assert (refused["code"], "cursor" in refused) == ("overloaded", False)
    assert refused["retry_after_ms"] > 0
    for response in (answer, sent):
        assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
        assert int(response.headers["Retry-After"]) > 0
    assert [data for data in quiet.updates if data == "marked"] == ["marked"], "once, though it was refused before"
    assert not any(line for line in worker.lines if "Traceback" in line), worker.tail()
    measured(f"goes on {took:.1f} s after there was room")
