"""Plain mode: any WebSocket client at all, without a subprotocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from orbit.config import Limits
from orbit.edge.rates import RateSettings
from orbit.protocol.cursors import Cursor
from orbit.protocol.ids import Epoch
from orbit.protocol.values import pack, unpack
from orbit.store import types as t
from orbit.store.store import Store
from orbit.verify.proxy import Proxy
from tests.integration.edge_bench import QUICK, Hand, RunningEdge, attach, updates
from tests.support.waiting import PATIENCE_S

ANN = "ann-" + "a" * 16


def address(edge: RunningEdge, tx: str, query: str = "") -> str:
    return edge.url.replace("http", "ws", 1) + f"/v1/transactions/{tx}/ws{query}"


@asynccontextmanager
async def plain(edge: RunningEdge, hand: Hand, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    options = {"compression": None, "proxy": None, "close_timeout": 1, **options}
    async with connect(address(edge, hand.tx, query), **options) as ws:
        yield ws


async def rest(ws: ClientConnection) -> tuple[list[Any], int, str]:
    """What still comes, and how it was closed."""
    seen = []
    try:
        while True:
            seen.append(await ws.recv())
    except ConnectionClosed:
        return seen, ws.close_code or 1006, ws.close_reason or ""


async def read_inbox(hand: Hand) -> list[Any]:
    """Take what is in the inbox, as a worker does."""
    await hand.claim()
    messages = await hand.inbox()
    await hand.commit(consumed=tuple(entry.id for entry in messages))
    return [unpack(entry.data) for entry in messages]


# ---- what the client is shown


async def test_text_bytes_and_json_then_1000(edge: RunningEdge, hand: Hand) -> None:
    await hand.update("before")
    async with plain(edge, hand) as ws:
        assert ws.subprotocol is None
        assert await ws.recv() == "before"
        await hand.update("", "żółw", b"\x00\xff", b"", 7, None, True, {"a": [1, b"\x00"], "$": 1}, 2**63 - 1)
        await hand.finish("result")
        assert await rest(ws) == (
            ["", "żółw", b"\x00\xff", b"", "7", "null", "true",
             '{"a":[1,{"$bytes":"AA=="}],"$":1}', "9223372036854775807"], 1000, "finished",
        )  # fmt: skip


async def test_where_it_begins(edge: RunningEdge, hand: Hand) -> None:
    first = await hand.update("old")
    await hand.update("newer")
    async with plain(edge, hand, "?after=$") as new, plain(edge, hand, f"?after={first.head}") as later:
        assert await later.recv() == "newer"
        await hand.update("new")
        assert await new.recv() == await later.recv() == "new"


@pytest.mark.parametrize(("end", "reason"), [("finish", "finished"), ("fail", "failed")])
async def test_one_that_is_over(edge: RunningEdge, hand: Hand, end: str, reason: str) -> None:
    await hand.update(1)
    await (hand.finish() if end == "finish" else hand.fail("ValueError", "a defect"))
    async with plain(edge, hand) as ws:
        assert await rest(ws) == (["1"], 1000, reason)
    async with plain(edge, hand, "?after=$") as ws:
        assert await rest(ws) == ([], 1000, reason)


async def test_what_is_for_another_session_is_not_shown(edge: RunningEdge, hand: Hand) -> None:
    async with plain(edge, hand, f"?session={ANN}") as ann, plain(edge, hand) as other:
        await hand.update("hers", session=ANN)
        await hand.update("all")
        assert [await ann.recv(), await ann.recv()] == ["hers", "all"]
        assert await other.recv() == "all"


async def test_a_reset_closes_with_4409(edge: RunningEdge, store: Store) -> None:
    hand = await Hand.start(store, keep=10)
    for first in range(0, 60, 10):
        await hand.update(*range(first, first + 10))
        await hand.commit(snapshot=b"{}", view=None)
    async with plain(edge, hand) as ws:
        assert await rest(ws) == ([], 4409, "reset: trimmed")
    head = Cursor(60, Epoch("9" * 19))
    async with plain(edge, hand, f"?after={head}") as ws:
        assert await rest(ws) == ([], 4409, "reset: rewound")


async def test_a_newer_attach_of_the_session_closes_with_4410(edge: RunningEdge, hand: Hand) -> None:
    async with plain(edge, hand, f"?session={ANN}") as first, plain(edge, hand, f"?session={ANN}"):
        assert (await rest(first))[1] == 4410
    link = await edge.link()
    async with plain(edge, hand, f"?session={ANN}") as ws:
        await attach(link, hand, session=ANN)
        assert (await rest(ws))[1] == 4410


async def test_a_slow_client_gets_all_of_it_before_the_close(edge: RunningEdge, hand: Hand) -> None:
    """More waits for it than its socket holds when the end comes: it is closed when it has taken that."""
    async with plain(edge, hand, max_queue=1) as ws:
        for n in range(40):
            await hand.update(f"{n} " + "x" * 500_000)
        await hand.finish()
        seen, code, _ = await rest(ws)
    assert ([int(text.split()[0]) for text in seen], code) == (list(range(40)), 1000)


async def test_leaving_closes_with_1012(redis_url: str, namespace: str, store: Store, hand: Hand) -> None:
    edge = await RunningEdge(redis_url, namespace).start()
    async with plain(edge, hand) as ws:
        edge.stop.set()
        assert (await rest(ws))[1] == 1012
    async with asyncio.timeout(PATIENCE_S):
        await edge.task
    assert (await store.sessions(hand.tx))[1] == 0
    await edge.close()


# ---- what the client says


async def test_frames_are_messages_numbered_after_the_last_mid(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "one"})
    await link.expect("receipt")
    async with plain(edge, hand, f"?session={ANN}") as ws:
        for data in ("two", b"\x03", ["fo", "ur"], ""):
            await ws.send(data)
        await stored(hand, 5)
    entries = await hand.inbox()
    assert [(entry.mid, unpack(entry.data)) for entry in entries] == [
        (1, "one"), (2, "two"), (3, b"\x03"), (4, "four"), (5, ""),
    ]  # fmt: skip
    assert {entry.session for entry in entries} == {hand.public(ANN)}


async def stored(hand: Hand, count: int) -> None:
    """Return when that many messages are in the inbox."""
    while len(await hand.inbox()) < count:
        pass


async def test_a_message_that_the_state_rejects_closes_with_4408(edge: RunningEdge, hand: Hand) -> None:
    async with plain(edge, hand, f"?session={ANN}") as ws, plain(edge, hand) as other:
        await ws.send("nonsense")
        await stored(hand, 1)
        await hand.refuse(ANN, 1, "state_error", "no such move")
        assert await rest(ws) == ([], 4408, "state_error: no such move")
        await hand.update("still here")
        assert await other.recv() == "still here"


async def test_a_message_that_came_after_the_end_is_no_fault(edge: RunningEdge, hand: Hand) -> None:
    """The client says something as the transaction ends; the end says it all."""
    async with plain(edge, hand, f"?session={ANN}") as ws:
        await ws.send("late")
        await stored(hand, 1)
        refusal = t.NewRefusal(hand.public(ANN), 1, "ended", "the transaction ended first")
        await hand.commit(t.NewUpdate(pack("last"), None), refusal, end=t.NewEnd("finished", pack(None)))
        assert await rest(ws) == (["last"], 1000, "finished")


async def test_a_message_that_is_too_large_closes_with_1009(redis_url: str, namespace: str, hand: Hand) -> None:
    edge = await RunningEdge(redis_url, namespace, {"limits": Limits(data_bytes=100, frame_bytes=1000)}).start()
    for size in (200, 2000):
        async with plain(edge, hand) as ws:
            await ws.send("x" * size)
            assert (await rest(ws))[1] == 1009
    assert not await hand.inbox()
    await edge.close()


async def test_text_that_is_not_utf_8_closes_with_4400(edge: RunningEdge, hand: Hand) -> None:
    async with plain(edge, hand) as ws:
        await ws.send(b"\xff\xfe", text=True)
        assert (await rest(ws))[1] in (4400, 1007)
    assert not await hand.inbox()


async def test_while_the_inbox_is_full_nothing_more_is_read_and_nothing_is_lost(
    redis_url: str, namespace: str, hand: Hand
) -> None:
    edge = await RunningEdge(redis_url, namespace, {"limits": Limits(inbox_messages=16)}).start()
    async with plain(edge, hand, max_queue=1) as ws:
        saying = asyncio.create_task(say(ws, 50))
        seen: list[Any] = []
        while len(seen) < 50:
            seen += await read_inbox(hand)
        await saying
        assert seen == [f"{n} " + "x" * 100_000 for n in range(50)]
        await hand.update("done")
        assert await ws.recv() == "done"
    await edge.close()


async def say(ws: ClientConnection, count: int) -> None:
    for n in range(count):
        await ws.send(f"{n} " + "x" * 100_000)


async def test_when_it_can_not_be_stored_for_long_it_is_closed_with_1013(
    redis_url: str, namespace: str, hand: Hand
) -> None:
    config = {"limits": Limits(inbox_messages=3), "pulse": replace(QUICK, patience_s=0.3)}
    edge = await RunningEdge(redis_url, namespace, config).start()
    async with plain(edge, hand) as ws:
        for n in range(5):
            await ws.send(str(n))
        assert (await rest(ws))[1] == 1013
    assert [unpack(entry.data) for entry in await hand.inbox()] == ["0", "1", "2"]
    await edge.close()


async def test_a_rate_only_slows_it_down(redis_url: str, namespace: str, hand: Hand) -> None:
    rates = RateSettings(connection_messages_s=50.0)
    edge = await RunningEdge(redis_url, namespace, {"rates": rates}).start()
    async with plain(edge, hand) as ws:
        for n in range(150):
            await ws.send(str(n))
        await stored(hand, 150)
    assert [unpack(entry.data) for entry in await hand.inbox()] == [str(n) for n in range(150)]
    await edge.close()


async def test_a_lost_reply_makes_no_message_twice(
    redis_url: str, namespace: str, store: Store, hand: Hand
) -> None:
    """append is written, the connection breaks before its reply: the edge sends the same under the same mid.

    The last message goes out only then: that it is stored shows that the ones before it were sent again.
    """
    async with Proxy.before(redis_url) as proxy:
        edge = await RunningEdge(proxy.url, namespace).start()
        async with plain(edge, hand) as ws:
            await ws.send("number-0")
            await stored(hand, 1)
            cut = proxy.cut_after(b"number-2")
            for n in range(1, 4):
                await ws.send(f"number-{n}")
            await cut.done.wait()
            await ws.send("number-4")
            await stored(hand, 5)
        assert [unpack(entry.data) for entry in await hand.inbox()] == [f"number-{n}" for n in range(5)]
        await edge.close()


# ---- the handshake


BAD = {
    "no such transaction": ("x" * 20, "", {}, 404, "not_found"),
    "no id": ("short", "", {}, 404, "not_found"),
    "a wrong cursor": (None, "?after=yesterday", {}, 400, "bad_request"),
    "an empty cursor": (None, "?after=", {}, 400, "bad_request"),
    "a wrong session": (None, "?session=short", {}, 400, "bad_request"),
    "a page of another origin": (None, "", {"origin": "http://evil.test"}, 403, "forbidden"),
}


@pytest.mark.parametrize("fault", BAD)
async def test_errors_of_the_handshake_are_http_answers(edge: RunningEdge, hand: Hand, fault: str) -> None:
    tx, query, options, status, code = BAD[fault]
    with pytest.raises(InvalidStatus) as refused:
        await connect(address(edge, tx or hand.tx, query), proxy=None, **options)
    response = refused.value.response
    assert (response.status_code, f'"code": "{code}"' in response.body.decode()) == (status, True), response.body
    assert (await hand.store.sessions(hand.tx))[1] == 0


async def test_a_plain_request_is_told_to_upgrade(edge: RunningEdge, hand: Hand) -> None:
    answer = await edge.http.get(f"/v1/transactions/{hand.tx}/ws")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


async def test_a_client_that_leaves_frees_its_place(edge: RunningEdge, hand: Hand) -> None:
    async with plain(edge, hand, f"?session={ANN}"):
        assert (await hand.store.sessions(hand.tx))[1] == 1
    while (await hand.store.sessions(hand.tx))[1]:
        pass
    assert await edge.counted("connections ") == 0


async def test_two_thousand_updates_at_once(edge: RunningEdge, hand: Hand) -> None:
    async with plain(edge, hand) as ws:
        for n in range(0, 2000, 100):
            await hand.update(*(f"{m}" for m in range(n, n + 100)))
        assert [await ws.recv() for _ in range(2000)] == [str(n) for n in range(2000)]


async def test_a_stream_and_the_protocol_side_by_side(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand)
    async with plain(edge, hand) as ws:
        await hand.update({"n": 1})
        assert await updates(link, 1) == [{"n": 1}]
        assert await ws.recv() == '{"n":1}'
