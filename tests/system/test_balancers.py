"""A fleet behind the load balancers of `deploy/`: nginx and HAProxy, with the files as they are shipped."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower
from orbit.verify.link import Link
from orbit.verify.logs import check_complete, check_logs
from orbit.verify.trace import LogEntry, Trace
from tests.support.balancers import DEPLOY, Balancer, HAProxy, Nginx
from tests.support.event_client import EventClient
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S, soon
from tests.system.conftest import STATES

pytestmark = [pytest.mark.system, pytest.mark.balancer]

APP = STATES / "pulse.py"
DRAIN_S = "3"
CLIENTS, ON_EVENTS, TRANSACTIONS = 100, 40, 20
"""`ON_EVENTS` of the clients follow by server-sent events, the others over WebSockets."""
LEAST_UPDATES = 20
"""How many updates each client gets between two things that happen to its edges."""


class Site:
    """Two edges and a worker behind one balancer."""

    def __init__(self, stage: Stage, redis: str, edges: list[Process], balancer: Balancer) -> None:
        self.stage = stage
        self.redis = redis
        self.edges = edges
        self.balancer = balancer
        self.url = balancer.url

    async def edge(self) -> Process:
        return await new_edge(self.stage, self.redis)

    async def replace(self, place: int) -> int:
        """Drain the edge at `place` after another has joined there; the exit status of the old one."""
        old, new = self.edges[place], await self.edge()
        if isinstance(self.balancer, Nginx):  # which can't see that an edge drains: out of the list, then away
            await self.balancer.put(place, address(new))
            code = await old.terminate()
        else:  # which sees it in /readyz: drain, then give its place to the new one
            code = await old.terminate()
            await self.balancer.put(place, address(new))
        self.edges[place] = new
        return code

    async def answers(self) -> bool:
        """Whether a request is served now."""
        return (await self.stage.http.get(f"{self.url}/v1/info")).status_code == 200

    async def kill(self, place: int) -> None:
        """Kill the edge at `place` without a word; another joins later."""
        await self.edges[place].kill()
        self.edges[place] = await self.edge()
        await self.balancer.put(place, address(self.edges[place]))


async def new_edge(stage: Stage, redis: str) -> Process:
    return await stage.edge(redis, "--drain-s", DRAIN_S)


def address(edge: Process) -> str:
    return edge.url.removeprefix("http://")


@pytest.fixture(params=[Nginx, HAProxy], ids=["nginx", "haproxy"])
async def site(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Site]:
    redis = (await stage.embedded()).url
    edges = [await new_edge(stage, redis) for _ in range(2)]
    await stage.worker(APP, redis)
    kind: type[Balancer] = request.param
    async with kind(stage, [address(edge) for edge in edges]) as balancer:
        yield Site(stage, redis, edges, balancer)


@pytest.fixture
async def events_http() -> AsyncIterator[httpx.AsyncClient]:
    """As many streams at once as there are listeners."""
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None)) as http:
        yield http


async def judge(url: str, followers: list[Follower]) -> list[str]:
    """What is wrong with what the followers saw, compared with the logs read through the balancer."""
    logs = await read_logs(url, [(f.tx, str(f.session)) for f in followers])
    found: list[str] = []
    by_tx: dict[str, dict[str, list[LogEntry]]] = {}
    for follower in followers:
        log = logs[follower.tx, str(follower.session)]
        name = follower.client.trace.name
        by_tx.setdefault(follower.tx, {})[name] = log
        found += map(str, check_trace(follower.client.trace, {follower.tx: log}))
        found += map(str, check_complete(name, follower.entries, log))
    for sessions in by_tx.values():
        found += map(str, check_logs(sessions))
    return found


async def finish(followers: list[Follower]) -> None:
    """Each transaction is finished by one of its followers, and all see the end."""
    for follower in {follower.tx: follower for follower in followers}.values():
        follower.send("finish")
    for follower in followers:
        await follower.until(lambda f: f.end is not None)


async def more(followers: list[Follower], listeners: Sequence[EventClient] = ()) -> None:
    """Every follower is attached and has got so many updates more, and so has every listener."""
    marks = [len(follower.entries) + LEAST_UPDATES for follower in followers]
    heard = [len(listener.updates) + LEAST_UPDATES for listener in listeners]
    for listener, mark in zip(listeners, heard, strict=True):
        await listener.until(mark)
    for follower, mark in zip(followers, marks, strict=True):
        await follower.until(lambda f, mark=mark: f.attached and len(f.entries) >= mark)


def pauses(trace: Trace) -> list[float]:
    """The times between updates that one client saw, in seconds."""
    at = [event.at for event in trace.events if event.what == "got" and event.message["type"] == "update"]
    return [later - earlier for earlier, later in pairwise(at)]


async def test_what_is_for_operators_is_not_shown_and_large_bodies_get_the_documented_answer(site: Site) -> None:
    http = site.stage.http
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await http.get(site.url + path)).status_code == 404, path
        assert (await http.get(site.edges[0].url + path)).status_code == 200, path
    assert (await http.get(f"{site.url}/v1/info")).json()["protocol"] == 1
    text = "x" * (1024 * 1024 - 100)
    assert await site.stage.start(site.url, "Watchful", ignored=text)
    answer = await http.post(f"{site.url}/v1/transactions", content=b" " * (2 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_a_page_of_the_balancers_own_origin_may_connect_and_no_other(site: Site) -> None:
    link = await Link.open(site.url, origin=site.url)
    await link.close()
    answer = await site.stage.http.post(
        f"{site.url}/v1/transactions", json={"state": "Watchful"}, headers={"Origin": "http://elsewhere.example"}
    )
    assert answer.status_code == 403


async def test_no_token_in_the_query_is_logged(site: Site) -> None:
    secret = "a-token-that-nobody-may-see"
    await site.stage.http.get(f"{site.url}/v1/info?token={secret}")
    await soon(lambda: any("/v1/info" in line for line in site.balancer.logged()))  # it comes after the answer
    assert not any(secret in line for line in site.balancer.logged())


async def test_clients_resume_over_a_killed_edge(site: Site, measured: Callable[[str], None]) -> None:
    clients = [WireClient([site.url], name=f"client {n}") for n in range(10)]
    async with asyncio.timeout(SCENE_S):
        tx = await site.stage.start(site.url, "Pulse")
        for client in clients:
            await client.__aenter__()
        followers = [client.follow(tx) for client in clients]
        await more(followers)
        doomed = site.edges[0]
        await doomed.kill()
        await more(followers)  # while nobody stands at its place
        await soon(site.answers)  # a check of the edge that is left may have come too late, once
        # Each request finds the edge that is left.
        for _ in range(10):
            assert await site.answers()
        await finish(followers)
        broken = sum(bool(client.closes) for client in clients)
        found = await judge(site.url, followers)
    for client in clients:
        await client.stop()
    assert not found, "\n".join(found[:30])
    assert 0 < broken < len(clients), "the clients were spread over both edges"
    measured(f"{broken} of 10 clients lost their edge; the longest pause {longest(clients):.2f} s")


async def test_edges_are_replaced_one_by_one_under_load(
    site: Site, events_http: httpx.AsyncClient, seed: int, measured: Callable[[str], None]
) -> None:
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SCENE_S):
        ids = [await site.stage.start(site.url, "Pulse", every_s=0.1) for _ in range(TRANSACTIONS)]
        clients = [
            WireClient([site.url], codec=rng.choice(("json", "msgpack")), name=f"client {n}")
            for n in range(CLIENTS - ON_EVENTS)
        ]
        for client in clients:
            await client.__aenter__()
        followers = [client.follow(ids[n % TRANSACTIONS]) for n, client in enumerate(clients)]
        listeners = [EventClient(events_http, site.url, ids[n % TRANSACTIONS]) for n in range(ON_EVENTS)]
        await more(followers, listeners)
        begun = loop.time()
        codes = [await site.replace(0), await site.replace(1)]
        await more(followers, listeners)
        drained_s = longest(clients, listeners)
        await site.kill(rng.randrange(2))
        await more(followers, listeners)
        took = loop.time() - begun
        await finish(followers)
        for listener in listeners:
            await listener.ended()
        found = await judge(site.url, followers) + await judge_events(site, listeners, ids)
    for client in clients:
        await client.stop()
    assert not found, "\n".join(found[:30])
    assert codes == [0, 0]
    assert all(client.closes for client in clients), "each client had to go elsewhere"
    assert all(listener.breaks for listener in listeners)
    updates = sum(len(one.updates) for one in (*followers, *listeners))
    measured(
        f"{CLIENTS} clients ({ON_EVENTS} on events), {TRANSACTIONS} transactions,"
        f" two edges replaced and one killed in {took:.1f} s:"
        f" {updates} updates, no gap, no repeat; the longest pause {drained_s:.2f} s at the drains,"
        f" {longest(clients, listeners):.2f} s with the kill"
    )


def longest(clients: list[WireClient], listeners: Sequence[EventClient] = ()) -> float:
    """The longest time between two updates that any client saw."""
    seen = [pauses(client.trace) for client in clients]
    seen += [[later - earlier for earlier, later in pairwise(listener.times)] for listener in listeners]
    return max(max(one, default=0.0) for one in seen)


async def judge_events(site: Site, listeners: list[EventClient], ids: list[str]) -> list[str]:
    """What is wrong with what each listener saw, compared with the log read through the balancer."""
    found = []
    for n, listener in enumerate(listeners):
        tx, log, after = ids[n % len(ids)], [], "0"
        while True:
            query = {"after": after, "limit": "1000"}
            page = (await site.stage.http.get(f"{site.url}/v1/transactions/{tx}/updates", params=query)).json()
            log += [(update["cursor"], update["data"]) for update in page["updates"]]
            if page["cursor"] == after:
                break
            after = page["cursor"]
        if listener.updates != log:
            found.append(f"listener {n}: {len(listener.updates)} updates of {len(log)}, not the log's")
        found += [f"listener {n}: {text}" for text in listener.trouble]
    return found


async def test_plain_mode_shows_sends_and_is_told_when_its_edge_leaves(site: Site) -> None:
    async with asyncio.timeout(SCENE_S):
        tx = await site.stage.start(site.url, "Pulse", every_s=0.05)
        address = site.url.replace("http", "ws", 1) + f"/v1/transactions/{tx}/ws"
        async with connect(address, proxy=None, compression=None) as ws:
            shown = [json.loads(await ws.recv()) for _ in range(20)]
            for place in (0, 1):
                await site.replace(place)
            with suppress(ConnectionClosed):
                while True:
                    shown.append(json.loads(await ws.recv()))
            assert ws.close_code == 1012
        log = (await site.stage.http.get(f"{site.url}/v1/transactions/{tx}/updates", params={"limit": "1000"})).json()
        assert shown == [update["data"] for update in log["updates"]][: len(shown)]
        async with connect(address + "?after=$", proxy=None, compression=None) as ws:
            await ws.send("finish")
            with suppress(ConnectionClosed):
                while True:
                    await ws.recv()
            assert (ws.close_code, ws.close_reason) == (1000, "finished")


async def test_a_draining_edge_gets_no_new_connection_while_it_still_serves_the_old(stage: Stage) -> None:
    """By its /readyz alone, without a word to the balancer: so with HAProxy only."""
    redis = (await stage.embedded()).url
    leaving, staying = await stage.edge(redis, "--drain-s", "20"), await stage.edge(redis)
    async with HAProxy(stage, [address(leaving), address(staying)]) as balancer, asyncio.timeout(SCENE_S):
        for place, edge in enumerate((leaving, staying)):
            await soon(partial(balancer.is_up, place, address(edge).partition(":")[2]))
        links = [await Link.open(balancer.url) for _ in range(4)]
        leaving.signal(signal.SIGTERM)
        waiting = [asyncio.create_task(link.expect("goaway")) for link in links]
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert done
        await soon(partial(balancer.has_heard, 0, "503"))
        assert leaving.alive
        for link, task in zip(links, waiting, strict=True):
            if task in done:
                await link.send({"type": "ping", "nonce": "old"})
                assert (await link.expect("pong"))["nonce"] == "old"
        later = [await Link.open(balancer.url) for _ in range(4)]
        # The old connections still work until their clients leave or the edge's time is up.
        for link in later:
            await link.send({"type": "ping", "nonce": "new"})
            assert (await link.expect("pong", "goaway"))["type"] == "pong"
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for link in links + later:
            await link.close()
        assert await leaving.wait() == 0, leaving.tail()


@pytest.mark.parametrize("kind", [Nginx, HAProxy])
async def test_the_shipped_configuration_is_valid(stage: Stage, kind: type[Balancer]) -> None:
    balancer = kind(stage, ["127.0.0.1:8001", "127.0.0.1:8002"])
    balancer.write()
    code, said = await balancer.check()
    await balancer.__aexit__()
    assert code == 0, said
    assert "warn" not in said.lower(), said


async def test_the_shipped_units_are_valid(stage: Stage) -> None:
    units = [str(path) for path in sorted((DEPLOY / "systemd").iterdir())]
    asked = await stage.spawn("systemd-analyze", "systemd-analyze", "verify", *units)
    assert (await asked.wait(), asked.tail().strip()) == (0, "")
