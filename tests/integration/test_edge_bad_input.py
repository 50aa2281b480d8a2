"""Clients that misbehave: what they do is refused or waits, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import json

import pytest

from orbit.store import types as t
from orbit.store.store import Store
from tests.integration.edge_bench import SCHEMA, Hand, RunningEdge, attach, updates

RECORD = t.StateRecord("Probe", 1, "default", SCHEMA, connection_hooks=False, keep_updates=100, retain_s=100.0)


async def raw(edge: RunningEdge, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = edge.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", ["/v1/transactions", "/v1/transactions/{tx}/messages", "/v1/transactions/{tx}/cancel"])
async def test_a_post_that_is_broken_off_stores_nothing(
    edge: RunningEdge, store: Store, hand: Hand, path: str
) -> None:
    """Half a body that could be read as a whole one, then the connection goes."""
    await store.publish_states([RECORD])
    body = json.dumps({"state": "Probe", "data": 1}).encode()
    head = f"POST {path.format(tx=hand.tx)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 10}\r\n\r\n".encode()
    _, writer = await raw(edge, head + body)
    assert (await edge.http.get("/livez")).status_code == 200
    await leave(writer)
    while not await edge.counted('http_requests_total{status="400"}'):  # then it was judged
        pass
    assert not await hand.inbox()
    assert [tx.tx for tx in (await store.list()).transactions] == [hand.tx]
    found = await store.get(hand.tx)
    assert found is not None
    assert found.status != "cancelled"


async def test_half_a_head_holds_up_nobody(edge: RunningEdge, hand: Hand) -> None:
    """Connections that never say what they want."""
    mute = [await raw(edge, b"GET /v1/info HTTP/1.1\r\nHost:") for _ in range(100)]
    link = await edge.link()
    await attach(link, hand)
    await hand.update("for all")
    assert await updates(link, 1) == ["for all"]
    assert (await edge.http.get("/v1/info")).status_code == 200
    for _, writer in mute:
        await leave(writer)


async def test_what_is_no_http_is_answered_with_400(edge: RunningEdge) -> None:
    reader, writer = await raw(edge, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    await leave(writer)


async def test_a_thousand_attaches_on_one_connection(edge: RunningEdge, store: Store, hand: Hand) -> None:
    """All that may be; one more is refused, the others stay, and other connections don't feel it."""
    greedy, modest = await edge.link(), await edge.link()
    others = [await Hand.start(store) for _ in range(1000)]
    await greedy.send(*({"type": "attach", "tx": other.tx} for other in others))
    answers = [await greedy.expect("attached", "error") for _ in others]
    assert {answer["type"] for answer in answers} == {"attached"}
    refused = await attach(greedy, hand)
    assert (refused["type"], refused["code"]) == ("error", "overloaded")
    assert (await attach(modest, hand))["type"] == "attached"
    await hand.update("here")
    assert await updates(modest, 1) == ["here"]
    await others[500].update("and here")
    assert await updates(greedy, 1) == ["and here"]
    assert (await attach(greedy, others[0]))["type"] == "attached", "one that it has may be attached anew"
