"""One connection, many callers; what a broken one means to each, on a real server behind a breaking proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection

from orbit.errors import Internal, OutcomeUnknown, Unavailable
from orbit.store import pipe as pipe_module
from orbit.store.address import connector
from orbit.store.embedded import EmbeddedServer
from orbit.store.link import Link
from orbit.store.pipe import Pipe
from orbit.store.script import Script
from orbit.verify.proxy import Proxy
from tests.support.waiting import soon

KEY = "pipe-test"


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy.before(server.url) as proxy:
        yield proxy


@pytest.fixture
async def pipe(proxy: Proxy) -> AsyncIterator[Pipe]:
    pipe = Pipe(connector(proxy.url, 10), 10)
    await pipe.ask(("DEL", KEY), writes=True)
    yield pipe
    await pipe.close()


@pytest.fixture
async def hasty(pipe: Pipe, proxy: Proxy) -> AsyncIterator[Pipe]:
    """Another one to the same key: connected, and soon tired of waiting."""
    hasty = Pipe(connector(proxy.url, 0.3), 0.3)

    async def connected() -> bool:
        try:
            return bool(await hasty.ask(("PING",), writes=False))
        except Unavailable:
            return False

    await soon(connected)
    yield hasty
    await hasty.close()


async def value(server: EmbeddedServer) -> int:
    link = Link(connector(server.url, 5), 5)
    try:
        return int(await link.read("GET", KEY) or 0)
    finally:
        await link.close()


async def test_what_is_asked_in_one_turn_of_the_loop_goes_out_at_once(pipe: Pipe, proxy: Proxy) -> None:
    upward: list[bytes] = []
    write = asyncio.StreamWriter.write

    def note(self: asyncio.StreamWriter, data: bytes) -> None:
        upward.append(data)
        write(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.StreamWriter, "write", note)
        answers = await asyncio.gather(*(pipe.ask(("INCR", KEY), writes=True) for _ in range(50)))
    assert answers == list(range(1, 51))
    assert [data.count(b"INCR") for data in upward if b"INCR" in data] == [50]
    assert proxy.connected == 1


async def test_more_than_may_be_under_way_waits_its_turn(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_module, "MAX_SENT", 3)
    answers = await asyncio.gather(*(pipe.ask(("INCR", KEY), writes=True) for _ in range(20)))
    assert answers == list(range(1, 21))


async def test_an_error_reply_is_its_caller_s_alone(pipe: Pipe) -> None:
    answers: list[object] = await asyncio.gather(
        *(pipe.ask(command, writes=True) for command in (("NO SUCH COMMAND",), ("INCR", KEY))), return_exceptions=True
    )
    wrong, right = answers
    assert isinstance(wrong, redis_errors.ResponseError)
    assert right == 1


async def test_a_caller_that_is_cancelled_disturbs_nobody(pipe: Pipe, proxy: Proxy, server: EmbeddedServer) -> None:
    proxy.hold()
    asked = [asyncio.ensure_future(pipe.ask(("INCR", KEY), writes=True)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked[1].cancel()
    proxy.release()
    first, second, third = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, third) == (1, 3)
    assert isinstance(second, asyncio.CancelledError)
    assert await pipe.ask(("INCR", KEY), writes=True) == 4


async def test_what_was_cancelled_before_it_was_sent_is_not_sent(pipe: Pipe, server: EmbeddedServer) -> None:
    asked = [asyncio.ensure_future(pipe.ask(("INCR", KEY), writes=True)) for _ in range(2)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert await asked[1] == 1
    assert await value(server) == 1


async def test_a_connection_cut_after_the_write_is_an_unknown_outcome(
    pipe: Pipe, proxy: Proxy, server: EmbeddedServer
) -> None:
    proxy.cut_after(b"INCR")
    with pytest.raises(OutcomeUnknown):
        await pipe.ask(("INCR", KEY), writes=True)
    assert await value(server) == 1, "it was done, and not once more"
    assert await pipe.ask(("INCR", KEY), writes=True) == 2


async def test_a_read_cut_off_is_just_not_answered(pipe: Pipe, proxy: Proxy) -> None:
    proxy.cut_after(b"GET")
    with pytest.raises(Unavailable) as caught:
        await pipe.ask(("GET", KEY), writes=False)
    assert caught.value.retry_after_ms


async def test_no_answer_in_time_is_an_unknown_outcome(pipe: Pipe, hasty: Pipe, proxy: Proxy) -> None:
    proxy.hold()
    with pytest.raises(OutcomeUnknown, match=r"no answer in 0\.3 s"):
        await hasty.ask(("INCR", KEY), writes=True)
    proxy.release()
    assert await pipe.ask(("GET", KEY), writes=False) in (b"1", None)


async def test_what_can_t_connect_is_certainly_not_done(proxy: Proxy) -> None:
    proxy.refusing = True
    pipe = Pipe(connector(proxy.url, 10), 10)
    with pytest.raises(Unavailable, match="can't be reached"):
        await pipe.ask(("INCR", KEY), writes=True)
    proxy.refusing = False
    assert await pipe.ask(("PING",), writes=True) == b"PONG"
    await pipe.close()


async def test_a_server_that_accepts_and_says_nothing(proxy: Proxy) -> None:
    proxy.hold()
    pipe = Pipe(connector(proxy.url, 0.1), 0.1)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await pipe.ask(("INCR", KEY), writes=True)
    await pipe.close()


async def test_what_waited_behind_a_stalled_connection_is_not_sent(
    hasty: Pipe, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_module, "MAX_SENT", 1)
    proxy.hold()
    outcomes = await asyncio.gather(
        *(hasty.ask(("INCR", KEY), writes=True) for _ in range(3)), return_exceptions=True
    )
    assert isinstance(outcomes[0], OutcomeUnknown)
    for other in outcomes[1:]:
        assert isinstance(other, Unavailable | OutcomeUnknown)


async def test_an_idle_connection_that_broke_is_made_anew(pipe: Pipe, proxy: Proxy) -> None:
    assert await pipe.ask(("INCR", KEY), writes=True) == 1
    proxy.drop_all()
    outcome: object = None
    while outcome != 2:
        try:
            outcome = await pipe.ask(("INCR", KEY), writes=True)
        except OutcomeUnknown:
            # It was sent into a connection that had just gone: told as what it is.
            await pipe.ask(("SET", KEY, "1"), writes=True)
    assert proxy.connected == 2


async def test_a_closed_pipe_answers_everybody(pipe: Pipe, proxy: Proxy) -> None:
    proxy.hold()
    asked = [asyncio.ensure_future(pipe.ask(("INCR", KEY), writes=writes)) for writes in (True, False)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await pipe.close()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in outcomes] in ([OutcomeUnknown, Unavailable], [Unavailable, Unavailable])
    with pytest.raises(Unavailable, match="closed"):
        await pipe.ask(("PING",), writes=False)


async def test_closing_a_pipe_that_never_opened(proxy: Proxy) -> None:
    await Pipe(connector(proxy.url, 1), 1).close()


# ---- scripts


async def test_a_script_that_the_server_forgot_is_sent_whole(server: EmbeddedServer) -> None:
    link = Link(connector(server.url, 5), 5)
    script = Script.of("incr", f"return redis.call('INCR', '{KEY}')", writes=True)
    await link.write("DEL", KEY)
    await link.write("SCRIPT", "FLUSH")
    assert await asyncio.gather(*(link.run(script, (KEY,)) for _ in range(5))) == [1, 2, 3, 4, 5]
    await link.write("SCRIPT", "FLUSH")
    assert await link.run(script, (KEY,)) == 6
    await link.close()


async def test_a_script_s_defect_is_internal(server: EmbeddedServer) -> None:
    link = Link(connector(server.url, 5), 5)
    with pytest.raises(Internal):
        await link.run(Script.of("broken", "return nothing.there", writes=True), (KEY,))
    await link.close()


@pytest.mark.parametrize("where", ["send_packed_command", "connect"])
async def test_a_transport_that_was_closed_already_ends_a_connection_and_not_the_pipe(
    pipe: Pipe, proxy: Proxy, where: str
) -> None:
    """uvloop's transports raise RuntimeError where they are written to after the other side has closed them: the writer
    may come before the reader is told. Once, this ended the pipe for good, while its process lived on.
    """
    real = getattr(Connection, where)

    async def closed(self: Connection, *arguments: object, **options: object) -> None:
        patch.setattr(Connection, where, real)
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    with pytest.MonkeyPatch.context() as patch:
        if where == "connect":
            proxy.drop_all()
        patch.setattr(Connection, where, closed)
        for _ in range(3):
            with contextlib.suppress(OutcomeUnknown, Unavailable):
                await pipe.ask(("INCR", KEY), writes=True)
        assert int(await pipe.ask(("GET", KEY), writes=False)) >= 1
