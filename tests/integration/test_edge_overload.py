"""Too many, too large, too slow: an edge turns away what comes, and serves those that are in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from websockets.exceptions import InvalidStatus

from orbit.edge import Capacity, admission
from orbit.edge.incoming import HEAD_BYTES
from orbit.store.store import Store
from tests.integration.edge_bench import QUICK, Hand, RunningEdge, attach, updates
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def head_s() -> float:
    """Long, but for those that it must run out for."""
    return PATIENCE_S


@pytest.fixture
async def edge(redis_url: str, namespace: str, store: Store, head_s: float) -> AsyncIterator[RunningEdge]:
    config = {"capacity": Capacity(connections=20, attaching=50), "pulse": replace(QUICK, head_s=head_s)}
    edge = await RunningEdge(redis_url, namespace, config).start()
    yield edge
    await edge.close()


Raw = Callable[[bytes], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def raw(edge: RunningEdge) -> AsyncIterator[Raw]:
    """Connections without any protocol, closed with the test."""
    writers = []

    async def connect(sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = edge.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        writer.write(sent)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes before the connection ends, however it ends."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_more_connections_than_may_be_are_sent_away(edge: RunningEdge, hand: Hand) -> None:
    links = [await edge.link() for _ in range(20)]
    for link in links:
        await attach(link, hand)
    with pytest.raises(InvalidStatus) as caught:
        await edge.link()
    response = caught.value.response
    assert response.status_code == 503
    assert response.headers["Retry-After"] in ("1", "2", "3")
    assert b"overloaded" in response.body
    events = await edge.http.get(f"/v1/transactions/{hand.tx}/events")
    assert (events.status_code, events.json()["error"]["code"]) == (503, "overloaded")
    assert int(events.headers["Retry-After"])
    await edge.until_ready()
    info = (await edge.http.get("/v1/info")).json()["limits"]
    assert (info["connections"], info["attaching"], info["lag_s"]) == (20, 50, 1.0)
    await hand.update("for those that are in")
    for link in links:
        assert await updates(link, 1) == ["for those that are in"]
    await links.pop().close()
    while await edge.counted("connections ") == 20:
        pass
    assert (await attach(await edge.link(), hand))["type"] == "attached"
    assert await edge.counted("turned_away_total") == 2


async def test_a_crowd_of_attaches_is_let_in_a_few_at_a_time(edge: RunningEdge, hand: Hand, store: Store) -> None:
    """What is refused is told when to come again, and nothing of it stays behind."""
    hands = [await Hand.start(store) for _ in range(200)]
    link = await edge.link()
    refused = {one.tx for one in hands}
    attached: set[str] = set()
    while refused:
        await link.send(*({"type": "attach", "tx": tx} for tx in refused))
        answers = [await link.expect("attached", "error") for _ in refused]
        attached |= {answer["tx"] for answer in answers if answer["type"] == "attached"}
        refused = {answer["tx"] for answer in answers if answer["type"] == "error"}
        assert all(
            answer["code"] == "overloaded" and answer["retry_after_ms"] > 0
            for answer in answers
            if answer["type"] == "error"
        )
    assert len(attached) == 200
    assert await edge.counted("turned_away_total")
    assert not await edge.counted("attaching")


@pytest.mark.parametrize("head_s", [0.3])
@pytest.mark.parametrize("sent", [b"", b"GET /v1/info HTTP/1.1\r\nHos", b"G"], ids=["nothing", "half a head", "a byte"])
async def test_who_does_not_say_what_it_wants_is_waited_for_a_while(raw: Raw, sent: bytes) -> None:
    reader, _ = await raw(sent)
    assert await rest(reader) == b""


@pytest.mark.parametrize("head_s", [0.3])
async def test_a_head_byte_by_byte_has_no_more_time(raw: Raw) -> None:
    reader, writer = await raw(b"")

    async def drip() -> None:
        for byte in b"GET /v1/info HTTP/1.1\r\nX: " + b"x" * 10_000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert await rest(reader) == b""
    dripping.cancel()


async def test_a_head_without_end_is_refused(raw: Raw) -> None:
    """Whatever the client goes on to send, no more of it is kept."""
    reader, writer = await raw(b"GET /v1/info HTTP/1.1\r\nHost: x\r\n")
    for n in range(3 * HEAD_BYTES // 1000):
        writer.write(b"X-%d: %b\r\n" % (n, b"x" * 990))
        await asyncio.sleep(0)
    answer = await rest(reader)
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")


async def test_a_large_body_with_the_next_head_behind_it(edge: RunningEdge, hand: Hand, raw: Raw) -> None:
    """All in one go: what counts to the next head isn't the body before it."""
    body = json.dumps({"data": "x" * 2 * HEAD_BYTES}).encode()
    head = f"POST /v1/transactions/{hand.tx}/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await raw(head.encode() + body + b"GET /livez HTTP/1.1\r\nHo")
    assert (await reader.readline()).startswith(b"HTTP/1.1 202")
    writer.write(b"st: x\r\n\r\n")
    await reader.readuntil(b"HTTP/1.1 200")


@pytest.mark.parametrize("head_s", [2.0])
async def test_a_second_request_has_its_own_time(raw: Raw) -> None:
    reader, writer = await raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"GET /livez HTTP/1.1\r\nHost")
    assert b"HTTP/1.1" not in await rest(reader)


@pytest.mark.parametrize("head_s", [2.0])
async def test_a_connection_that_was_upgraded_stays(edge: RunningEdge, hand: Hand, raw: Raw) -> None:
    link = await edge.link()
    mute, _ = await raw(b"GET /")
    await rest(mute)  # by then the time of a head is over
    await attach(link, hand)
    await hand.update("here")
    assert await updates(link, 1) == ["here"]


async def test_sockets_have_a_limit_too(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that the process would have no open file left for what it needs."""
    monkeypatch.setattr(admission, "allowed_files", lambda: 200)
    edge = await RunningEdge(redis_url, namespace, {"capacity": Capacity(connections=20)}).start()
    host, _, port = edge.url.removeprefix("http://").partition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(150)]
    assert await rest(opened[-1][0]) == b"", "one too many is cut at once"
    for _, writer in opened:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)
    await edge.close()
