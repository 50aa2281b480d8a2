"""A crowd that lost its edge comes all at once: those that there is room for are let in, the others are told when to
come again, and those that were in don't notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from orbit.verify.client import WireClient
from tests.support.processes import Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES
from tests.system.test_edges import judge

pytestmark = pytest.mark.system

CROWD, ROOM = 1500, 400
HANDSHAKE = (
    "GET /v1/ws HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: orbit.v1.json\r\n\r\n"
)


async def knock(url: str, writers: list[asyncio.StreamWriter]) -> bytes:
    """The head of the answer to a handshake; the connection stays."""
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writers.append(writer)
        writer.write(HANDSHAKE.encode())
        return await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        return b""


def judged(heads: list[bytes]) -> Counter[str]:
    """How many were let in, how many told when to come again."""
    found: Counter[str] = Counter()
    for head in heads:
        lines = head.split(b"\r\n")
        match lines[0].split(b" ")[1:2]:
            case [b"101"]:
                found["in"] += 1
            case [b"503"] if any(line.lower().startswith(b"retry-after: ") for line in lines):
                found["later"] += 1
            case _:
                found[head.decode()] += 1
    return found


async def test_a_crowd_that_comes_at_once(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis, "--max-connections", str(ROOM))
    await stage.worker(STATES / "pulse.py", redis)
    writers: list[asyncio.StreamWriter] = []
    async with WireClient([edge.url], name="steady") as steady, asyncio.timeout(SCENE_S):
        follower = steady.follow(await stage.start(edge.url, "Pulse", every_s=0.02))
        await follower.until(lambda f: len(f.entries) > 10)
        heads = await asyncio.gather(*(knock(edge.url, writers) for _ in range(CROWD)))
        found = judged(heads)
        have = len(follower.entries)
        await follower.until(lambda f: len(f.entries) > have + 20)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        while await stage.metric(edge.url, "orbit_edge_connections") > 1:
            pass
        late: list[asyncio.StreamWriter] = []
        assert judged([await knock(edge.url, late)]) == {"in": 1}, "there is room again"
        late[0].transport.abort()
        follower.send("finish")
        await follower.until(lambda f: f.end is not None)
        assert steady.closes == []
        await judge(edge.url, follower)
    assert found.keys() == {"in", "later"}, found
    assert found["in"] <= ROOM - 1
    measured(f"{CROWD} at once, room for {ROOM}: {dict(found)}")
