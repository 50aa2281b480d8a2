"""One State file, unchanged, on one machine's `orbit dev` and on separate processes at a server of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

import pytest

from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from tests.support.processes import Stage
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

APP = STATES / "recipe.py"
WORDS = ["one", "three", "seventeen", "stop", "never"]
EXPECTED: list[Any] = [
    "begun",
    {"one": 3},
    {"three": 5},
    {"seventeen": 9},
    {"gathered": [b"\x00bytes", 4]},
    {"big": 2**63 - 1, "$odd": {"$x": None}},
    "run is over",
    {"heard": 1, "data": {"$bytes": "no bytes"}},
    ("rejected", 2, "state_error"),
    {"yours": 2},
    {"heard": 2, "data": "mine"},
    {"heard": 3, "data": "end"},
    "finished",
]


async def play(stage: Stage, url: str, codec: str) -> list[Any]:
    """Run the State with a client at `url`; what that client saw, without cursors."""
    async with WireClient([url], codec=codec) as client, asyncio.timeout(PATIENCE_S):
        follower = client.follow(await stage.start(url, "Recipe", words=WORDS))
        await follower.until(lambda f: f.updates and f.updates[-1] == "run is over")
        for message in ({"$bytes": "no bytes"}, "oops", "mine", "end"):
            follower.send(message)
        await follower.until(lambda f: f.end is not None)
        assert follower.end is not None
        assert follower.end["result"] == {"lengths": {"one": 3, "three": 5, "seventeen": 9}, "heard": 3}
        assert check_trace(client.trace) == []
        answer = await stage.http.get(f"{url}/v1/transactions/{follower.tx}/result")
        assert answer.json()["result"] == follower.end["result"]
        return [("rejected", *entry.body) if entry.kind == "rejected" else entry.body for entry in follower.entries]


async def separate(stage: Stage, redis: str) -> str:
    await stage.worker(APP, redis)
    return (await stage.edge(redis)).url


async def test_on_orbit_dev(stage: Stage) -> None:
    url = (await stage.dev(APP, "--workers", "2")).url
    assert await play(stage, url, "json") == EXPECTED
    assert await play(stage, url, "msgpack") == EXPECTED


async def test_on_separate_processes(stage: Stage) -> None:
    url = await separate(stage, (await stage.embedded()).url)
    assert await play(stage, url, "json") == EXPECTED


@pytest.mark.debian
async def test_on_debians_redis(stage: Stage) -> None:
    if shutil.which("redis-server") is None and not os.environ.get("CI"):
        pytest.skip("redis-server isn't installed")
    redis = await stage.debian()
    assert await play(stage, await separate(stage, redis), "json") == EXPECTED


@pytest.mark.debian
async def test_on_orbit_dev_at_debians_redis(stage: Stage) -> None:
    if shutil.which("redis-server") is None and not os.environ.get("CI"):
        pytest.skip("redis-server isn't installed")
    url = (await stage.dev(APP, "--redis", await stage.debian())).url
    assert await play(stage, url, "msgpack") == EXPECTED
