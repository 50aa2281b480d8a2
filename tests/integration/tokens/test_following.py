"""What a token allows who follows a transaction, and for how long."""

from __future__ import annotations

import json
from typing import Any

from websockets.asyncio.client import connect

from orbit.protocol.values import unpack
from tests.integration.edge_bench import Hand, RunningEdge, attach, take, updates
from tests.integration.tokens.bench import (
    ANN,
    bearer,
    knock,
    plain_url,
    sign,
)


async def test_what_each_verb_needs(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, token=sign(hand.tx, "watch"))
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "no"})
    refused = await link.expect("rejected", tx=hand.tx)
    assert (refused["code"], refused["mid"]) == ("forbidden", 1)
    await link.send({"type": "cancel", "tx": hand.tx})
    assert (await link.expect("error", tx=hand.tx))["code"] == "forbidden"
    assert not await hand.inbox()
    await attach(link, hand, token=sign(hand.tx, "watch send cancel"))
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "yes"})
    await link.expect("receipt", tx=hand.tx)
    assert [entry.subject for entry in await hand.inbox()] == ["ann"]
    await link.send({"type": "cancel", "tx": hand.tx})
    await link.expect("cancelled", tx=hand.tx)


async def test_cancel_without_an_attach_needs_the_handshakes_token(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await link.send({"type": "cancel", "tx": hand.tx})
    assert (await link.expect("error", tx=hand.tx))["code"] == "unauthorized"
    link = await knock(edge, sign(hand.tx, "cancel"))
    await link.send({"type": "cancel", "tx": hand.tx})
    await link.expect("cancelled", tx=hand.tx)


async def test_an_attach_without_the_right_ends_the_one_before(edge: RunningEdge, hand: Hand) -> None:
    link = await knock(edge, sign(hand.tx, "watch send"))
    await attach(link, hand)
    assert (await attach(link, hand, token="rubbish"))["code"] == "unauthorized"
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    assert (await link.expect("rejected"))["code"] == "bad_request"


async def test_a_session_belongs_to_its_first_subject(edge: RunningEdge, hand: Hand) -> None:
    ann, bob, nobody = [await knock(edge, sign(hand.tx, "watch send", sub=sub)) for sub in ("ann", "bob", None)]
    assert (await attach(ann, hand, session=ANN))["type"] == "attached"
    assert (await attach(bob, hand, session=ANN))["code"] == "forbidden"
    assert (await attach(nobody, hand, session=ANN))["code"] == "forbidden"
    for sub, status in (("bob", 403), (None, 403), ("ann", 202)):
        body = {"data": 1, "session": ANN, "mid": 1}
        answer = await edge.http.post(
            f"/v1/transactions/{hand.tx}/messages", json=body, headers=bearer(sign(hand.tx, "send", sub=sub))
        )
        assert answer.status_code == status, answer.text
    for sub, status in (("bob", 403), (None, 403), ("ann", 200)):
        page = await edge.http.get(
            f"/v1/transactions/{hand.tx}/updates", params={"session": ANN}, headers=bearer(sign(hand.tx, sub=sub))
        )
        assert page.status_code == status, (sub, page.text)
    rows, _ = await hand.store.sessions(hand.tx)
    assert {row.session: row.subject for row in rows} == {hand.public(ANN): "ann"}


async def test_an_expiry_and_a_refresh_without_a_gap(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    seen: list[Any] = []
    await hand.update(0, 1)
    attached = await attach(link, hand, session=ANN, token=sign(hand.tx, "watch send", ttl_s=6.0))
    assert attached["type"] == "attached"
    entries = await take(link, 2)
    seen += [entry["data"] for entry in entries]
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "first"})
    await link.expect("receipt")
    expired = await link.expect("error", tx=hand.tx)
    assert expired["code"] == "unauthorized"
    assert "op" not in expired
    await hand.update(2, 3)
    again = await attach(
        link, hand, session=ANN, after=entries[-1]["cursor"], token=sign(hand.tx, "watch send", alg="HS256")
    )
    assert (again["type"], again["last_mid"]) == ("attached", 1)
    seen += await updates(link, 2)
    await hand.update(4)
    seen += await updates(link, 1)
    assert seen == [0, 1, 2, 3, 4]
    await link.send({"type": "send", "tx": hand.tx, "mid": 2, "data": "second"})
    assert not (await link.expect("receipt"))["duplicate"]


async def test_an_expiry_ends_a_stream_of_events_and_a_fresh_token_goes_on(edge: RunningEdge, hand: Hand) -> None:
    path = f"/v1/transactions/{hand.tx}/events"
    headers = bearer(sign(hand.tx, ttl_s=5.0))
    async with edge.http.stream("GET", path, headers=headers) as response:
        lines = response.aiter_lines()
        await hand.update(1)
        told = [line async for line in lines]
    seen = [line.partition(": ")[2] for line in told if line.startswith("id: ")]
    assert json.loads(told[-2].removeprefix("data: "))["code"] == "unauthorized"
    await hand.update(2)
    await hand.finish()
    again = bearer(sign(hand.tx)) | {"Last-Event-ID": seen[-1]}
    answer = await edge.http.get(path, headers=again)
    messages = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [message.get("data") for message in messages if message["type"] == "update"] == [2]


async def test_an_expiry_closes_plain_mode_with_4401(edge: RunningEdge, hand: Hand) -> None:
    async with connect(plain_url(edge, hand.tx, sign(hand.tx, "watch send", ttl_s=5.0)), proxy=None) as ws:
        await hand.update("one")
        assert await ws.recv() == "one"
        await ws.send("in time")
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (4401, "unauthorized: the token has expired")
    assert [unpack(entry.data) for entry in await hand.inbox()] == ["in time"]


async def test_a_message_in_plain_mode_without_the_right_closes_with_4403(edge: RunningEdge, hand: Hand) -> None:
    async with connect(plain_url(edge, hand.tx, sign(hand.tx, "watch")), proxy=None) as ws:
        await ws.send("no")
        await ws.wait_closed()
        assert ws.close_code == 4403
    assert not await hand.inbox()


async def test_a_fresh_token_in_time_is_not_interrupted(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN, token=sign(hand.tx, ttl_s=5.0))
    await attach(link, hand, session=ANN, token=sign(hand.tx))
    brief = await Hand.start(hand.store)
    await attach(link, brief, token=sign(brief.tx, ttl_s=5.5))
    assert (await link.expect("error"))["tx"] == brief.tx  # later than the first token's end
    await hand.update("still here")
    assert await updates(link, 1) == ["still here"]


async def test_an_expired_handshake_token_lets_nobody_attach(edge: RunningEdge, hand: Hand) -> None:
    link = await knock(edge, sign("*", ttl_s=5.0))
    await attach(link, hand)
    await link.expect("error", tx=hand.tx)
    assert (await attach(link, hand))["code"] == "unauthorized"
