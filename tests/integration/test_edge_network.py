"""An edge whose way to Redis loses replies, loses what is published, or falls silent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orbit.protocol.values import unpack
from orbit.store.store import Store
from orbit.verify.proxy import Proxy
from tests.integration.edge_bench import Hand, RunningEdge, attach, take, updates

ANN = "ann-" + "a" * 16


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.before(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def edge(proxy: Proxy, namespace: str, store: Store) -> AsyncIterator[RunningEdge]:
    edge = await RunningEdge(proxy.url, namespace).start()
    yield edge
    proxy.release()
    await edge.close()


async def test_a_lost_reply_to_a_message_is_an_unknown_outcome(edge: RunningEdge, hand: Hand, proxy: Proxy) -> None:
    link = await edge.link("msgpack")
    await attach(link, hand, session=ANN)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "so that the server knows the script"})
    await link.expect("receipt")
    cut = proxy.cut_after(b"the needle")
    await link.send({"type": "send", "tx": hand.tx, "mid": 2, "data": "the needle"})
    error = await link.expect("error", "receipt", "rejected")
    assert (error["type"], error["op"], error["mid"], error["code"]) == ("error", "send", 2, "unavailable")
    assert error["retry_after_ms"] > 0
    await cut.done.wait()
    answer: dict[str, object] = {}
    while answer.get("type") != "receipt":
        await link.send({"type": "send", "tx": hand.tx, "mid": 2, "data": "the needle"})
        answer = await link.expect("error", "receipt", "rejected")
    assert answer["duplicate"] is True
    assert [unpack(entry.data) for entry in await hand.inbox()][1:] == ["the needle"]


async def test_what_pubsub_lost_in_silence_is_found(edge: RunningEdge, hand: Hand, proxy: Proxy) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await hand.update("heard")
    assert await updates(link, 1) == ["heard"]
    proxy.rewrite = lambda data: data.replace(b":live", b":lost")
    await hand.update("unheard")
    assert await updates(link, 1) == ["unheard"]
    await hand.finish()
    assert [message["type"] for message in await take(link, 1, "end", "reset", "error")] == ["end"]
    assert await edge.counted("live_messages_lost_total") >= 2
    await edge.until_ready()


async def test_a_silent_network_is_red_and_nothing_is_lost(edge: RunningEdge, hand: Hand, proxy: Proxy) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    proxy.hold()
    await hand.update("held up")
    while (await edge.http.get("/readyz")).status_code != 503:
        pass
    assert (await edge.http.get("/livez")).status_code == 200
    proxy.release()
    assert await updates(link, 1) == ["held up"]
    while (await edge.http.get("/readyz")).status_code != 200:
        pass


async def test_a_deaf_subscription_is_made_anew(edge: RunningEdge, hand: Hand, proxy: Proxy) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    proxy.rewrite = lambda data: data.replace(b"smessage", b"smassage")
    while (await edge.http.get("/readyz")).status_code != 503:
        pass
    while not await edge.counted("subscriber_restarts_total"):
        pass
    proxy.rewrite = bytes
    while (await edge.http.get("/readyz")).status_code != 200:
        pass
    await hand.update("heard again")
    assert await updates(link, 1) == ["heard again"]
