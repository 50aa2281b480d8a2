"""A store that opens while Redis isn't well waits until it is."""

from __future__ import annotations

import asyncio

from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.verify.proxy import Proxy


async def test_a_connection_that_breaks_in_the_check_is_made_again() -> None:
    async with EmbeddedServer() as server, Proxy.before(server.url) as proxy:
        cut = proxy.cut_after(b"EVALSHA")
        said: list[str] = []
        store = await Store.open(proxy.url, StoreSettings(), wait=True, say=said.append)
        assert cut.done.is_set()
        assert len(said) == 1
        await store.close()


async def test_a_full_server_is_waited_for() -> None:
    async with EmbeddedServer() as server:
        await server.command("CONFIG", "SET", "maxmemory", 1)
        said: asyncio.Queue[str] = asyncio.Queue()
        opening = asyncio.create_task(Store.open(server.url, StoreSettings(), wait=True, say=said.put_nowait))
        assert "waiting for Redis" in await said.get()
        await server.command("CONFIG", "SET", "maxmemory", 0)
        await (await opening).close()
