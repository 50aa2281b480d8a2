"""An edge mounted in another application, on that one's server: the tests of the edge's own pass there as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

import orbit.asgi
from orbit.edge.frames import frame, payloads
from orbit.edge.server import Server, listen, url_of
from orbit.store.store import Store
from tests.integration.edge_bench import QUICK, ROOMY, Hand, RunningEdge, attach, closed_with, updates
from tests.integration.test_edge_events import *  # noqa: F403
from tests.integration.test_edge_following import *  # noqa: F403
from tests.integration.test_edge_http import RECORD
from tests.integration.test_edge_plain import *  # noqa: F403
from tests.integration.test_edge_sends import *  # noqa: F403
from tests.integration.test_edge_slow import *  # noqa: F403
from tests.support.waiting import PATIENCE_S


@dataclass
class RunningHost(RunningEdge):
    """An application that serves other things, too, with an edge below `/live`."""

    async def start(self) -> RunningHost:
        about = {"pulse": QUICK, "capacity": ROOMY, **self.config}
        self.edge = orbit.asgi.edge(self.redis, namespace=self.namespace, **about)
        host = Starlette(routes=[Mount("/live", self.edge)], lifespan=self.edge.lifespan)
        listener = listen("127.0.0.1", 0, insecure=False)
        config = uvicorn.Config(host, ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=1)
        self.server = Server(config)
        self.task = asyncio.create_task(self.server.serve([listener]))
        self.url = url_of(listener, "127.0.0.1") + "/live"
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=PATIENCE_S)
        await self.until_ready()
        return self

    async def close(self) -> None:
        self.server.should_exit = True
        for link in self.links:
            link.abort()
            await link.ws.wait_closed()
        await self.http.aclose()
        await self.task


@pytest.fixture
async def edge(redis_url: str, namespace: str, store: Store) -> AsyncIterator[RunningEdge]:
    edge = await RunningHost(redis_url, namespace).start()
    yield edge
    await edge.close()


async def test_http_goes_below_the_mount(edge: RunningEdge, hand: Hand) -> None:
    assert (await edge.http.get(f"/v1/transactions/{hand.tx}")).json()["id"] == hand.tx
    assert (await edge.http.get("/v1/nothing")).json()["error"]["code"] == "not_found"


async def test_the_place_of_what_was_started_is_below_the_mount(edge: RunningEdge, store: Store) -> None:
    await store.publish_states([RECORD])
    started = await edge.http.post("/v1/transactions", json={"state": RECORD.name})
    place = started.headers["Location"]
    assert place == f"/live/v1/transactions/{started.json()['id']}"
    assert (await edge.http.get(edge.url.removesuffix("/live") + place)).status_code == 200


async def test_the_host_s_leaving_closes_with_1012_and_frees_the_places(
    redis_url: str, namespace: str, store: Store, hand: Hand
) -> None:
    edge = await RunningHost(redis_url, namespace).start()
    link = await edge.link()
    await attach(link, hand)
    await hand.update(1)
    assert await updates(link, 1) == [1]
    edge.server.should_exit = True
    assert await closed_with(link) == 1012
    await edge.task
    assert (await store.sessions(hand.tx))[1] == 0
    await edge.close()


async def test_a_client_of_another_machine_is_refused_without_tokens(redis_url: str, namespace: str) -> None:
    edge = orbit.asgi.edge(redis_url, namespace=namespace, pulse=QUICK)
    transport = httpx.ASGITransport(edge, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
        assert (await http.get("/livez")).status_code == 503, "its lifespan hasn't begun"
        async with edge.lifespan():
            answer = await http.get("/livez")
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            assert "insecure=True" in answer.json()["error"]["message"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_taken_apart_as_they_were_made(size: int) -> None:
    parts = [(b"x" * size, True), (b"", False), (b"y", False)]
    assert list(payloads(b"".join(frame(part, text=text) for part, text in parts))) == parts
