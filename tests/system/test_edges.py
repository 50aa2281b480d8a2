"""Edges that are killed, drained, or read from too slowly; what is for one session alone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from orbit.config import Timing
from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.link import Link
from orbit.verify.logs import check_complete, check_logs
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

APP = STATES / "pulse.py"
DRAIN_S = 8
STALL_S = float(os.environ.get("ORBIT_STALL_S", "20"))
"""How long a client stops reading."""


async def judge(edge: str, *followers: Follower) -> None:
    """Compare what followers of one ended transaction saw with its log."""
    tx = followers[0].tx
    logs = await read_logs(edge, [(tx, str(follower.session)) for follower in followers])
    found = [*map(str, check_logs({session: log for (_, session), log in logs.items()}))]
    for follower in followers:
        log = logs[tx, str(follower.session)]
        found += map(str, check_trace(follower.client.trace, {tx: log}))
        if len(log) != len(follower.entries) or follower.entries != log:
            found += map(str, check_complete(follower.client.trace.name, follower.entries, log))
    assert not found, "\n".join(found[:30])


async def level(one: Follower, other: Follower) -> None:
    """Return when both stand at the same place, whichever of them comes there last."""
    while one.cursor != other.cursor:
        pulses = [asyncio.ensure_future(follower.client.changed()) for follower in (one, other)]
        try:
            await asyncio.wait(pulses, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pulse in pulses:
                pulse.cancel()


def told(follower: Follower, what: str) -> list[Any]:
    return [data for data in follower.updates if isinstance(data, dict) and what in data]


async def test_sessions_of_a_killed_edge_are_gone_once_after_the_grace(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    redis = (await stage.embedded()).url
    doomed, edge = await stage.edge(redis, "--grace-s", "2"), await stage.edge(redis, "--grace-s", "2")
    await stage.worker(APP, redis)
    async with WireClient([edge.url], name="watcher") as watcher, asyncio.timeout(SCENE_S):
        tx = await stage.start(edge.url, "Watchful")
        seen = watcher.follow(tx)
        await seen.until(lambda f: len(told(f, "came")) == 1)
        lost = WireClient([doomed.url, edge.url], name="on the killed edge")
        lost._at = 0
        running = asyncio.create_task(lost.run())
        follower = lost.follow(tx)
        await follower.until(lambda f: len(told(f, "came")) == 2)
        follower.send("mark")
        await follower.until(lambda f: "marked" in f.updates)
        await doomed.kill()
        await lost.stop()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await seen.until(lambda f: told(f, "gone"))
        took = loop.time() - begun
        await asyncio.gather(running, return_exceptions=True)
        # It comes back: whoever is told twice that it left would be told here.
        async with WireClient([edge.url], name="back again") as back:
            returned = back.follow(tx, session=follower.session)
            await returned.until(lambda f: len(told(f, "came")) == 3)
            returned.next_mid = follower.next_mid
            returned.send("mark")
            await returned.until(lambda f: f.updates.count("marked") == 2)
            returned.send("finish")
            await returned.until(lambda f: f.end is not None)
            await seen.until(lambda f: f.end is not None)
            gone = told(seen, "gone")
            came = told(seen, "came")
            await judge(edge.url, seen, returned)
    measured(f"on_disconnect came {took:.1f} s after its edge was killed (grace 2 s)")
    assert len(gone) == 1
    assert gone[0]["gone"] == came[1]["came"] == came[2]["came"]
    assert came[2]["resumed"]
    assert took >= 2


async def test_an_edge_that_was_paused_past_its_death_takes_its_places_again(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    """Its clients never noticed; their sessions were told as gone. They are told as connected again, and may send."""
    redis = (await stage.embedded()).url
    paused, edge = await stage.edge(redis, "--grace-s", "0.2"), await stage.edge(redis, "--grace-s", "0.2")
    await stage.worker(APP, redis, "--grace-s", "0.2")
    loop = asyncio.get_running_loop()
    async with (
        WireClient([edge.url], name="watcher") as watcher,
        WireClient([paused.url], name="on the paused edge") as there,
        asyncio.timeout(SCENE_S),
    ):
        seen = watcher.follow(await stage.start(edge.url, "Watchful"))
        follower = there.follow(seen.tx)
        await seen.until(lambda f: len(told(f, "came")) == 2)
        paused.signal(signal.SIGSTOP)
        begun = loop.time()
        await seen.until(lambda f: told(f, "gone"))
        took = loop.time() - begun
        follower.send("mark")
        paused.signal(signal.SIGCONT)
        await seen.until(lambda f: len(told(f, "came")) == 3 and "marked" in f.updates)
        await follower.until(lambda f: "marked" in f.updates)
        follower.send("finish")
        for one in (seen, follower):
            await one.until(lambda f: f.end is not None)
        assert len(told(seen, "gone")) == 1
        came = [n for n, data in enumerate(seen.updates) if isinstance(data, dict) and "came" in data]
        assert seen.updates.index("marked") > came[2], "a State is told of a session before its next message"
        assert there.closes == [], "it kept its connection"
        await judge(edge.url, seen, follower)
    measured(f"told as gone {took:.1f} s after its edge was stopped (grace 0.2 s)")


async def test_a_private_update_reaches_its_session_alone_also_in_a_resume(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    edges = [(await stage.edge(redis)).url for _ in range(2)]
    await stage.worker(APP, redis)
    async with (
        WireClient(edges, name="one") as one,
        WireClient(edges, name="two", codec="msgpack") as two,
        asyncio.timeout(SCENE_S),
    ):
        tx = await stage.start(edges[0], "Watchful")
        mine, other = one.follow(tx), two.follow(tx)
        await other.until(lambda f: len(told(f, "came")) == 2)
        for number in range(5):
            mine.send(f"secret {number}")
        await mine.until(lambda f: len(told(f, "secret")) == 5)
        await level(mine, other)
        assert other.advances, "the other's cursor moved past what isn't for it"
        for client in (one, two):
            client.hop(rude=False)
        mine.send("later")
        await mine.until(lambda f: len(told(f, "secret")) == 6)
        await level(mine, other)
        two.hop(rude=True)
        other.send("mark")
        await other.until(lambda f: "marked" in f.updates)
        mine.send("finish")
        await mine.until(lambda f: f.end is not None)
        await other.until(lambda f: f.end is not None)
        assert not told(other, "secret")
        assert [data["secret"] for data in told(mine, "secret")] == [*(f"secret {n}" for n in range(5)), "later"]
        await judge(edges[0], mine, other)


@pytest.mark.timeout(300 + 4 * STALL_S)
async def test_a_client_that_stops_reading_costs_the_edge_nothing_and_misses_nothing(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(APP, redis)
    slow = WireClient([edge.url], name="slow", codec="msgpack")
    slow.options = {"max_queue": 1, "sock": _narrow(edge.url)}
    async with WireClient([edge.url], name="quick", codec="msgpack") as quick, asyncio.timeout(SCENE_S + 3 * STALL_S):
        tx = await stage.start(edge.url, "Pulse", every_s=0.005, padding_bytes=4000, limit=int(STALL_S * 200) + 400)
        beside = quick.follow(tx)
        stalled = slow.follow(tx)
        gate = _Gate(slow)
        running = asyncio.create_task(slow.run())
        await stalled.until(lambda f: len(f.entries) > 100)
        before = edge.rss_bytes()
        gate.shut()
        count = len(beside.entries)
        most = await _watch(edge, beside, count + int(STALL_S * 200))
        behind = len(beside.entries) - len(stalled.entries)
        slow.options = {}
        gate.open()
        await beside.until(lambda f: len(f.updates) == int(STALL_S * 200) + 400)
        beside.send("finish")
        for follower in (beside, stalled):
            await follower.until(lambda f: f.end is not None)
        after = edge.rss_bytes()
        await slow.stop()
        await asyncio.gather(running, return_exceptions=True)
        await judge(edge.url, beside, stalled)
    grown = (most - before) / 2**20
    measured(
        f"a client {behind} updates ({behind * 4000 / 2**20:.0f} MiB) behind: the edge grew {grown:.1f} MiB"
        f" while it waited, {(after - before) / 2**20:.1f} MiB by the end; closed with {slow.closes or 'nothing'}"
    )
    assert behind * 4000 > 8 * 2**20, "the client wasn't behind enough to show anything"
    assert grown < 6


class _Gate:
    """Stops a client's reading: its link's next read waits, and so the socket fills up."""

    def __init__(self, client: WireClient) -> None:
        self._free = asyncio.Event()
        self._free.set()
        original = Link.read

        async def read(link: Link) -> list[dict[str, Any]]:
            await self._free.wait()
            return await original(link)

        self._client, self._read = client, read
        client.reader = read

    def shut(self) -> None:
        self._free.clear()

    def open(self) -> None:
        self._free.set()


def _narrow(url: str) -> socket.socket:
    """A connected socket with a small receive buffer, so that what isn't read waits at the sender."""
    host, _, port = url.removeprefix("http://").partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    made.connect((host, int(port)))
    made.setblocking(False)
    return made


async def _watch(edge: Process, follower: Follower, upto: int) -> int:
    """The most memory that the edge has until `follower` holds `upto` updates."""
    most = 0
    step = 100
    while len(follower.entries) < upto:
        target = min(upto, len(follower.entries) + step)
        await follower.until(lambda f, target=target: len(f.entries) >= target)
        most = max(most, edge.rss_bytes())
    return most


async def test_drain_says_goaway_and_closes_with_1012(stage: Stage, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    leaving, staying = await stage.edge(redis, "--drain-s", str(DRAIN_S)), await stage.edge(redis)
    await stage.worker(APP, redis)
    assert (await stage.http.get(f"{leaving.url}/readyz")).status_code == 200
    idle = await Link.open(leaving.url)
    async with asyncio.timeout(SCENE_S):
        clients = [WireClient([leaving.url, staying.url], name=f"client {n}") for n in range(10)]
        running = []
        tx = await stage.start(staying.url, "Pulse", every_s=0.01)
        for client in clients:
            client._at = 0
            running.append(asyncio.create_task(client.run()))
        followers = [client.follow(tx) for client in clients]
        for follower in followers:
            await follower.until(lambda f: len(f.entries) > 10)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        leaving.signal(signal.SIGTERM)
        goaway = await idle.expect("goaway")
        ready = await stage.http.get(f"{leaving.url}/readyz")
        code = await leaving.wait()
        took = loop.time() - begun
        await _until_closed(idle)
        for follower in followers:
            have = len(follower.entries)
            await follower.until(lambda f, have=have: f.attached and len(f.entries) > have)
        followers[0].send("finish")
        for follower in followers:
            await follower.until(lambda f: f.end is not None)
        for client in clients:
            await client.stop()
        await asyncio.gather(*running, return_exceptions=True)
        await judge(staying.url, *followers)
    waits = sorted(client.goaways[0]["reconnect_after_ms"] for client in clients)
    measured(f"drained in {took:.2f} s; clients were sent away after {waits[0]} to {waits[-1]} ms")
    assert ready.status_code == 503
    assert code == 0, leaving.tail()
    assert idle.ws.close_code == 1012
    assert 0 <= goaway["reconnect_after_ms"] <= DRAIN_S * 1000
    assert waits[-1] <= DRAIN_S * 1000
    assert len(set(waits)) > 1, "the times are staggered"
    assert took < Timing().drain_s / 2, "its own --drain-s counts"


async def _until_closed(link: Link) -> None:
    await link.ws.wait_closed()
