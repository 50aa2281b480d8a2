"""A client on real edges, over connections that break again and again: every update and every message once."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from orbit.client import Backoff, Client, End, Update
from orbit.client.attachment import Attachment
from orbit.protocol.codecs import CODECS, Codec
from orbit.protocol.values import pack, unpack
from orbit.store.store import Store
from orbit.store.types import NewUpdate, Work
from orbit.verify.proxy import Proxy
from tests.unit.client.job import RECORD, Job
from tests.unit.client.real import running_edge

MESSAGES = 60
AT_ONCE = 5
BREAK_EVERY = 2 * AT_ONCE
"""More than can be under way at once: so each such break needs a new connection before the next."""


async def echo(job: Job, proxies: list[Proxy], dice: random.Random) -> None:
    """Answer each message with an update, one commit each; connections break in between."""
    answered = 0
    while answered < MESSAGES:
        work = await job.store.read_work(job.tx, None, 3)
        assert isinstance(work, Work)
        for message in work.incoming:
            update = NewUpdate(pack([message.mid, unpack(message.data)]))
            await job.commit(entries=(update,), consumed=(message.id,))
            answered += 1
            if answered % BREAK_EVERY == 0 or dice.random() < 0.3:
                for proxy in proxies:
                    proxy.drop_all()


async def speak(attachment: Attachment) -> list[int]:
    room = asyncio.Semaphore(AT_ONCE)

    async def say(n: int) -> int:
        async with room:
            return await attachment.send(n)

    return await asyncio.gather(*(say(n) for n in range(MESSAGES)))


async def listen(attachment: Attachment) -> list[Update]:
    updates: list[Update] = []
    async for event in attachment:
        if isinstance(event, Update):
            updates.append(event)
        assert not isinstance(event, End) or len(updates) == MESSAGES
    return updates


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
async def test_every_update_and_every_message_once(codec: Codec, store: Store, redis_url: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    await store.publish_states([RECORD])
    async with AsyncExitStack() as stack:
        proxies = []
        for _ in range(2):
            url = urlsplit(await stack.enter_async_context(running_edge(redis_url, store.settings.namespace)))
            proxies.append(await stack.enter_async_context(Proxy("127.0.0.1", url.port or 0)))
        urls = [f"http://127.0.0.1:{proxy.port}" for proxy in proxies]
        client = await stack.enter_async_context(Client(urls, codec=codec, backoff=Backoff(0.01, 0.05)))
        tx = await client.start("Count", {"total": 1})
        job = await Job.claimed(store, tx)
        async with asyncio.timeout(60), await client.attach(tx) as attachment:
            listening = asyncio.create_task(listen(attachment))
            mids, _ = await asyncio.gather(speak(attachment), echo(job, proxies, dice))
            await job.end()
            updates = await listening
    assert sum(proxy.connected for proxy in proxies) >= MESSAGES // BREAK_EVERY, "the connections did break"
    assert mids == list(range(1, MESSAGES + 1))
    assert [update.data for update in updates] == [[n + 1, n] for n in range(MESSAGES)]
