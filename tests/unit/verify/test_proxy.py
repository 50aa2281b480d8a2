"""The proxy does what the tests that use it rely on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from orbit.store.embedded import EmbeddedServer
from orbit.verify.proxy import Proxy
from tests.support.waiting import soon


class Echo:
    """A server that answers each line and remembers what it read."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.read.append(line)
            writer.write(b"did " + line)
            await writer.drain()
        writer.close()


async def rest(reader: asyncio.StreamReader, count: int = -1) -> bytes:
    """What still comes before the connection ends, however it ends (at most `count` bytes)."""
    try:
        return await reader.read(count)
    except ConnectionError:
        return b""


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    handler = Echo()
    server = await asyncio.start_server(handler.serve, "127.0.0.1", 0)
    async with Proxy(port=server.sockets[0].getsockname()[1]) as proxy:
        yield handler, proxy
    server.close()


async def test_passes_bytes_both_ways(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    assert await reader.readline() == b"did one\n"
    writer.close()


async def test_a_cut_request_is_done_and_its_reply_lost(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    cut = proxy.cut_after(b"two")
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    assert await reader.readline() == b"did one\n"
    writer.write(b"t")
    writer.write(b"wo\n")
    assert await rest(reader) == b"", "the reply must be lost"
    await cut.done.wait()
    assert handler.read == [b"one\n", b"two\n"]
    writer.close()


async def test_a_cut_happens_once(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    cut = proxy.cut_after(b"two")
    for expected in (b"", b"did two\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"two\n")
        assert await rest(reader, len(expected) or -1) == expected
        writer.close()
    await cut.done.wait()


async def test_drop_all_breaks_connections(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    await reader.readline()
    proxy.drop_all()
    assert await rest(reader) == b""
    writer.close()


async def test_what_is_held_passes_after_release(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.hold()
    writer.write(b"one\n")
    reading = asyncio.ensure_future(reader.readline())
    done, _ = await asyncio.wait({reading}, timeout=0.05)
    assert not done
    proxy.release()
    assert await reading == b"did one\n"
    writer.close()


async def test_rewrites_what_the_server_says(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.rewrite = lambda data: data.replace(b"did", b"saw")
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    assert await reader.readline() == b"saw one\n"
    writer.close()


@pytest.mark.parametrize("up", [True, False])
async def test_one_direction_alone_can_be_held(echo: tuple[Echo, Proxy], up: bool) -> None:
    """Held on the way there, the server reads nothing; held on the way back, it has done it all the same."""
    handler, proxy = echo
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.hold(up=up, down=not up)
    writer.write(b"one\n")
    reading = asyncio.ensure_future(reader.readline())
    if not up:
        await soon(lambda: handler.read)
    done, _ = await asyncio.wait({reading}, timeout=0.1)
    assert not done
    assert handler.read == ([] if up else [b"one\n"])
    proxy.heal()
    assert await reading == b"did one\n"
    writer.close()


async def test_refused_until_it_is_healed(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.refusing = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await rest(reader) == b""
    writer.close()
    proxy.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    assert await reader.readline() == b"did one\n"
    writer.close()


async def test_published_messages_get_lost_whole_and_nothing_else() -> None:
    """Half of a real server's; the answers to commands all come."""
    async with EmbeddedServer() as server, Proxy.before(server.url) as proxy:
        turns = itertools.cycle((True, False))
        proxy.loses = lambda: next(turns)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\nc\r\n")
        assert [await reader.readline() for _ in range(6)][-1] == b":1\r\n"
        for n in range(20):
            await server.command("SPUBLISH", "c", f"{n:04d}")
        writer.write(b"*2\r\n$12\r\nSUNSUBSCRIBE\r\n$1\r\nc\r\n")
        seen = b""
        while not seen.endswith(b":0\r\n"):
            seen += await reader.read(4096)
        assert proxy.lost == seen.count(b"smessage\r\n") == 10
        assert seen.endswith(b"sunsubscribe\r\n$1\r\nc\r\n:0\r\n")
        writer.close()
