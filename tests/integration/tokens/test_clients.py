"""The Python client, with a token or many."""

from __future__ import annotations

import asyncio

import pytest

from orbit.client import Client
from orbit.errors import Forbidden, Unauthorized
from orbit.protocol.messages import Update
from orbit.protocol.values import unpack
from tests.integration.edge_bench import Hand, RunningEdge
from tests.integration.tokens.bench import (
    sign,
)
from tests.support.waiting import PATIENCE_S


async def test_the_python_client(edge: RunningEdge, hand: Hand) -> None:
    async with Client(edge.url, token=sign("*", "start watch send list cancel")) as client:
        await hand.update("hello")
        async with await client.attach(hand.tx) as attachment:
            await attachment.send("there")
            assert [entry.subject for entry in await hand.inbox()] == ["ann"]
        assert (await client.get(hand.tx)).id == hand.tx
        tx = await client.start("Probe", {})
        await client.cancel(tx)
    async with Client(edge.url, token=sign("o" * 16)) as client:
        with pytest.raises(Forbidden):
            await client.get(hand.tx)
        with pytest.raises(Forbidden):
            await client.attach(hand.tx)
    async with Client(edge.url) as client:
        with pytest.raises(Unauthorized):
            await client.get(hand.tx)
        async with await client.attach(hand.tx, token=sign(hand.tx)) as attachment:
            assert attachment.tx == hand.tx


async def test_a_client_that_is_asked_for_fresh_tokens_goes_on(edge: RunningEdge, hand: Hand) -> None:
    asked: list[str] = []
    fourth = asyncio.Event()

    def fresh() -> str:
        asked.append(sign(hand.tx, "watch send", ttl_s=4.0))
        if len(asked) == 4:
            fourth.set()
        return asked[-1]

    async with Client(edge.url, token=fresh) as client:
        attachment = await client.attach(hand.tx)
        for n in range(20):
            await hand.update(n)
            if n == 10:
                async with asyncio.timeout(PATIENCE_S):
                    await fourth.wait()
            await attachment.send(n)
        assert [unpack(entry.data) for entry in await hand.inbox()] == list(range(20))
        await hand.finish()
        seen = [event.data async for event in attachment if isinstance(event, Update)]
    assert seen == list(range(20))


async def test_a_client_with_a_token_that_ends_is_told(edge: RunningEdge, hand: Hand) -> None:
    async with Client(edge.url, token=sign(hand.tx, ttl_s=5.0)) as client:
        attachment = await client.attach(hand.tx)
        with pytest.raises(Unauthorized):
            async for _ in attachment:
                pass
