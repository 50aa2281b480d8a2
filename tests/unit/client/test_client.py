"""`Client` against an edge that says what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orbit.client import Advance, Attached, Attachment, Client, End, Lost, Rejected, Reset, Update, attachment
from orbit.errors import (
    BadRequest,
    Ended,
    Forbidden,
    Gone,
    Internal,
    MessageLost,
    NotFound,
    OrbitError,
    ProtocolError,
    Replaced,
    TooLarge,
    Unauthorized,
    Unavailable,
    UpdatesReset,
    UsageError,
)
from orbit.protocol.codecs import JSON, MSGPACK
from tests.unit.client.scripted import PATIENCE_S, SESSION, TX, Peer, ScriptedEdge, cursor, scripted_edge


@pytest.fixture
async def edge() -> AsyncIterator[ScriptedEdge]:
    async with scripted_edge() as edge:
        yield edge


@pytest.fixture
async def client(edge: ScriptedEdge) -> AsyncIterator[Client]:
    async with Client(edge.url, codec=JSON) as client:
        yield client


async def attach(client: Client, edge: ScriptedEdge, at: int = 0, last_mid: int = 0) -> tuple[Attachment, Peer]:
    asked = asyncio.create_task(client.attach(TX))
    peer = await edge.peer()
    await peer.attached(at, last_mid=last_mid)
    attachment = await asked
    assert isinstance(await anext(attachment), Attached)
    return attachment, peer


async def next_update(attachment: Attachment) -> int:
    async with asyncio.timeout(PATIENCE_S):
        async for event in attachment:
            if isinstance(event, Update):
                return int(event.data)
    raise AssertionError("no update came")


async def test_events_come_whole_and_end_with_the_end(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.updates(1)
    await peer.say(
        {"type": "advance", "cursor": cursor(2)},
        {"type": "reset", "cursor": cursor(3), "reason": "trimmed", "view": {"a": {"$bytes": "AAE="}}, "last_mid": 0},
        {"type": "rejected", "mid": 1, "code": "state_error", "message": "no", "cursor": cursor(4)},
        {"type": "end", "cursor": cursor(5), "status": "finished", "result": 7},
    )
    assert [event async for event in attachment] == [
        Update(TX, cursor(1), 1),
        Advance(TX, cursor(2)),
        Reset(TX, cursor(3), "trimmed", {"a": b"\x00\x01"}, 0),
        Rejected(TX, 1, "state_error", "no", cursor=cursor(4)),
        End(TX, cursor(5), "finished", 7),
    ]
    assert attachment.cursor == cursor(5)
    assert attachment.session == SESSION
    with pytest.raises(Ended):
        await attachment.send(1)


async def test_a_connection_that_breaks_before_the_reset_is_resumed_from_the_cursor_before(
    client: Client, edge: ScriptedEdge
) -> None:
    attachment, peer = await attach(client, edge)
    await peer.updates(1, 2)
    assert [await next_update(attachment), await next_update(attachment)] == [1, 2]
    peer.cut()
    again = await edge.peer()
    await again.attached(1)
    assert isinstance(await anext(attachment), Attached)
    assert attachment.cursor == cursor(2), "an application that ends here must hear of the reset when it goes on"
    again.cut()
    third = await edge.peer()
    assert (await third.attached(1))["after"] == cursor(2)
    await third.say({"type": "reset", "cursor": cursor(1), "reason": "rewound", "view": None, "last_mid": 0})
    assert [type(await anext(attachment)) for _ in range(2)] == [Attached, Reset]
    assert attachment.cursor == cursor(1)


async def test_a_broken_connection_is_resumed_from_the_cursor(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.updates(1, 2)
    assert await next_update(attachment) == 1
    assert await next_update(attachment) == 2
    peer.cut()
    again = await edge.peer()
    assert await again.attached(2) == {"type": "attach", "tx": TX, "after": cursor(2), "session": SESSION}
    await again.updates(3)
    assert await next_update(attachment) == 3


async def test_it_resumes_after_what_it_holds_though_the_application_is_behind(
    client: Client, edge: ScriptedEdge
) -> None:
    attachment, peer = await attach(client, edge)
    await peer.updates(1, 2, 3)
    sent = asyncio.create_task(attachment.send("hello"))
    await peer.hear_until("send")
    await peer.receipt(1)
    await sent  # so the updates before the receipt have arrived
    peer.cut()
    again = await edge.peer()
    assert (await again.attached(3, last_mid=1))["after"] == cursor(3)
    assert attachment.cursor == "0"
    assert [await next_update(attachment) for _ in range(3)] == [1, 2, 3]


async def test_entries_are_ignored_until_an_attach_is_answered(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.say({"type": "error", "code": "unavailable", "message": "", "retry_after_ms": 1})
    assert (await peer.hear())["type"] == "attach"
    await peer.updates(1)
    await peer.say(
        {"type": "attached", "session": SESSION, "cursor": "0", "status": "running", "last_mid": 0},
        {"type": "update", "cursor": cursor(1), "data": 10},
    )
    assert await next_update(attachment) == 10


async def test_the_next_edge_is_taken_when_one_is_dead() -> None:
    async with scripted_edge() as dead:
        url = dead.url
    async with scripted_edge() as edge, Client([url, edge.url], codec=JSON) as client:
        attachment, peer = await attach(client, edge)
        await peer.updates(1)
        assert await next_update(attachment) == 1


async def test_no_edge_at_all_is_told_in_time() -> None:
    async with scripted_edge() as dead:
        url = dead.url
    async with Client(url, codec=JSON, patience_s=3.0) as client:
        with pytest.raises(Unavailable, match=r"no edge follows .* after 3 s; ws://127"):
            await client.attach(TX)
        assert TX not in client._link


async def test_goaway_moves_the_client_to_another_edge() -> None:
    async with scripted_edge() as one, scripted_edge() as other, Client([one.url, other.url], codec=JSON) as client:
        asked = asyncio.create_task(client.attach(TX))
        waits = {asyncio.create_task(edge.peer()): edge for edge in (one, other)}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        [first] = done
        peer = first.result()
        await peer.attached()
        attachment = await asked
        await peer.updates(1)
        assert await next_update(attachment) == 1
        await peer.say({"type": "goaway", "reconnect_after_ms": 1})
        [second] = pending
        again = await asyncio.wait_for(second, PATIENCE_S)
        assert (await again.attached(1))["after"] == cursor(1)


async def test_a_message_is_sent_and_its_receipt_awaited(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge, last_mid=4)
    sent = asyncio.create_task(attachment.send({"b": b"\xff"}))
    assert await peer.hear() == {"type": "send", "tx": TX, "mid": 5, "data": {"b": {"$bytes": "/w=="}}}
    await peer.receipt(5)
    assert await sent == 5


async def test_unreceipted_messages_are_sent_again_and_stored_ones_are_not(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    sends = [asyncio.create_task(attachment.send(n)) for n in (1, 2, 3)]
    for _ in sends:
        await peer.hear_until("send")
    peer.cut()
    again = await edge.peer()
    await again.attached(last_mid=1)
    assert await sends[0] == 1
    for mid in (2, 3):
        assert await again.hear() == {"type": "send", "tx": TX, "mid": mid, "data": mid}
        await again.receipt(mid)
    assert await asyncio.gather(*sends) == [1, 2, 3]


async def test_a_refused_message_goes_again_and_those_behind_it_in_order(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    sends = [asyncio.create_task(attachment.send(n)) for n in (1, 2)]
    assert [(await peer.hear())["mid"] for _ in sends] == [1, 2]
    await peer.refuse(1, "overloaded", retry_after_ms=1)
    await peer.refuse(2, "out_of_order", last_mid=0, retry_after_ms=1)
    assert [(await peer.hear())["data"] for _ in sends] == [1, 2]
    await peer.receipt(1)
    await peer.receipt(2)
    assert await asyncio.gather(*sends) == [1, 2]


async def test_a_message_refused_for_good_raises_and_its_mid_is_used_again(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    sends = [asyncio.create_task(attachment.send(n)) for n in (1, 2)]
    assert [(await peer.hear())["mid"] for _ in sends] == [1, 2]
    await peer.refuse(1, "forbidden")
    with pytest.raises(Forbidden, match="it is forbidden"):
        await sends[0]
    await peer.refuse(2, "out_of_order", last_mid=0)
    assert await peer.hear() == {"type": "send", "tx": TX, "mid": 1, "data": 2}
    await peer.receipt(1)
    assert await sends[1] == 1


async def test_an_unknown_outcome_is_sent_again_under_the_same_mid(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    sent = asyncio.create_task(attachment.send("x"))
    first = await peer.hear()
    await peer.say({"type": "error", "op": "send", "mid": 1, "code": "unavailable", "message": "", "retry_after_ms": 1})
    assert await peer.hear() == first
    await peer.receipt(1, duplicate=True)
    assert await sent == 1


async def test_lost_messages_are_told_as_an_event_and_to_those_who_wait(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    stored = asyncio.create_task(attachment.send("stored"))
    await peer.hear()
    await peer.receipt(1)
    assert await stored == 1
    waits = asyncio.create_task(attachment.send("waits"))
    await peer.hear()
    peer.cut()
    again = await edge.peer()
    await again.attached(last_mid=0)
    with pytest.raises(MessageLost):
        await waits
    events = [await anext(attachment) for _ in range(2)]
    assert [event for event in events if isinstance(event, Lost)] == [Lost(range(1, 2), (2,))]
    after = asyncio.create_task(attachment.send("next"))
    assert (await again.hear())["mid"] == 1
    await again.receipt(1)
    assert await after == 1


async def test_a_message_withdrawn_before_it_went_out_never_goes_out(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.say({"type": "error", "code": "unavailable", "message": "", "retry_after_ms": 1})
    await peer.hear()
    sends = [asyncio.create_task(attachment.send(n)) for n in (1, 2)]
    asyncio.get_running_loop().call_soon(sends[0].cancel)
    with pytest.raises(asyncio.CancelledError):
        await sends[0]
    await peer.say({"type": "attached", "session": SESSION, "cursor": "0", "status": "running", "last_mid": 0})
    assert (await peer.hear())["data"] == 2


async def test_a_replaced_client_attaches_anew_once(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.say({"type": "error", "code": "replaced", "message": "a newer attach"})
    await peer.attached()
    await peer.say({"type": "error", "code": "replaced", "message": "a newer attach"})
    assert isinstance(await anext(attachment), Attached)
    with pytest.raises(Replaced, match="a newer attach"):
        await anext(attachment)
    with pytest.raises(Replaced):
        await attachment.send(1)


@pytest.mark.parametrize(("code", "error"), [("not_found", NotFound), ("forbidden", Forbidden)])
async def test_an_attach_that_is_refused_raises(
    client: Client, edge: ScriptedEdge, code: str, error: type[OrbitError]
) -> None:
    asked = asyncio.create_task(client.attach(TX))
    peer = await edge.peer()
    await peer.hear()
    await peer.say({"type": "error", "op": "attach", "code": code, "message": "no"})
    with pytest.raises(error, match="no"):
        await asked


async def test_an_attach_that_is_refused_for_now_is_asked_again(client: Client, edge: ScriptedEdge) -> None:
    asked = asyncio.create_task(client.attach(TX))
    peer = await edge.peer()
    await peer.hear()
    await peer.say({"type": "error", "op": "attach", "code": "overloaded", "message": "", "retry_after_ms": 1})
    await peer.attached()
    await asked


async def test_a_removed_transaction_is_gone(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.updates(1)
    await peer.say({"type": "error", "code": "gone", "message": "removed"})
    assert await next_update(attachment) == 1
    with pytest.raises(Gone, match="removed"):
        await anext(attachment)


@pytest.mark.parametrize(
    ("code", "error"), [(4400, BadRequest), (4401, Unauthorized), (4403, Forbidden), (1009, BadRequest)]
)
async def test_final_close_codes_are_not_reconnected(
    client: Client, edge: ScriptedEdge, code: int, error: type[OrbitError]
) -> None:
    attachment, peer = await attach(client, edge)
    await peer.close(code, "why")
    with pytest.raises(error, match="why"):
        await anext(attachment)
    assert edge.nobody_came


@pytest.mark.parametrize("code", [1000, 1001, 1012, 1013, 4500])
async def test_other_close_codes_are_reconnected(client: Client, edge: ScriptedEdge, code: int) -> None:
    attachment, peer = await attach(client, edge)
    await peer.close(code)
    await (await edge.peer()).attached()
    assert isinstance(await anext(attachment), Attached)


async def test_an_edge_that_talks_nonsense_is_told_to_the_application(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    await peer.connection.send("{")
    with pytest.raises(ProtocolError):
        await anext(attachment)


async def test_an_edge_of_another_codec_is_refused(edge: ScriptedEdge) -> None:
    async with Client(edge.url, codec=MSGPACK) as client:
        with pytest.raises(OrbitError):
            await client.attach(TX)


async def test_a_slow_application_is_served_from_the_log(
    client: Client, edge: ScriptedEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment, "BUFFER_EVENTS", 5)
    monkeypatch.setattr(attachment, "ROOM_S", 0.02)
    slow, peer = await attach(client, edge)
    await peer.updates(*range(1, 21))
    sent = asyncio.create_task(slow.send("still heard"))
    await peer.hear()
    await peer.receipt(1)
    assert await sent == 1
    assert len(slow._events) == 5
    assert [await next_update(slow) for _ in range(5)] == [1, 2, 3, 4, 5]
    waits = asyncio.create_task(next_update(slow))
    assert (await peer.attached(5, last_mid=1))["after"] == cursor(5)
    await peer.updates(6)
    assert await waits == 6


async def test_closing_detaches_and_the_connection_goes_on(client: Client, edge: ScriptedEdge) -> None:
    one, peer = await attach(client, edge)
    async with one:
        waits = asyncio.create_task(anext(one))
        await asyncio.wait({waits}, timeout=0)
    assert await peer.hear() == {"type": "detach", "tx": TX}
    with pytest.raises(StopAsyncIteration):
        await waits
    asked = asyncio.create_task(client.attach(TX))
    await peer.attached()
    await asked


async def test_a_transaction_is_followed_once_per_client(client: Client, edge: ScriptedEdge) -> None:
    await attach(client, edge)
    with pytest.raises(UsageError):
        await client.attach(TX)


async def test_updates_raise_a_reset(client: Client, edge: ScriptedEdge) -> None:
    async def collect() -> list[int]:
        return [update.data async for update in client.updates(TX)]

    asked = asyncio.create_task(collect())
    peer = await edge.peer()
    await peer.attached()
    await peer.say({"type": "reset", "cursor": cursor(9), "reason": "rewound", "view": [1], "last_mid": 0})
    with pytest.raises(UpdatesReset) as raised:
        await asked
    assert (raised.value.cursor, raised.value.view, raised.value.reason) == (cursor(9), [1], "rewound")


async def test_values_are_checked_before_they_go_out(client: Client, edge: ScriptedEdge) -> None:
    attachment, _ = await attach(client, edge)
    with pytest.raises(BadRequest):
        await attachment.send(float("nan"))
    with pytest.raises(TooLarge):
        await attachment.send(b"x" * 2**20)
    with pytest.raises(BadRequest):
        await client.attach(TX, after="nowhere")
    with pytest.raises(BadRequest):
        await client.attach(TX, session="short")


async def test_the_end_settles_messages_that_wait(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    sends = [asyncio.create_task(attachment.send(n)) for n in (1, 2)]
    for _ in sends:
        await peer.hear()
    await peer.say({"type": "end", "cursor": cursor(1), "status": "cancelled"})
    await peer.receipt(1)
    await peer.refuse(2, "ended")
    assert await sends[0] == 1
    with pytest.raises(Ended):
        await sends[1]
    assert [event async for event in attachment] == [End(TX, cursor(1), "cancelled")]


async def test_a_connection_lost_after_the_end_leaves_nobody_waiting(client: Client, edge: ScriptedEdge) -> None:
    attachment, peer = await attach(client, edge)
    sent = asyncio.create_task(attachment.send(1))
    await peer.hear()
    await peer.say({"type": "end", "cursor": cursor(1), "status": "finished"})
    assert isinstance(await anext(attachment), End)
    peer.cut()
    with pytest.raises(MessageLost):
        await sent


async def test_closing_the_client_ends_everything(edge: ScriptedEdge) -> None:
    async with Client(edge.url, codec=JSON, token="secret") as client:
        attachment, peer = await attach(client, edge)
        assert peer.headers["Authorization"] == "Bearer secret"
        sent = asyncio.create_task(attachment.send(1))
        await peer.hear()
    with pytest.raises(MessageLost):
        await sent
    with pytest.raises(Ended):
        await attachment.send(2)


def test_urls_are_checked() -> None:
    for urls in (["ws://x"], ["http://x", "localhost:8000"], []):
        with pytest.raises(BadRequest):
            Client(urls)


async def test_an_edge_that_does_not_answer_is_left(
    client: Client, edge: ScriptedEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers_within(seconds: float) -> None:
        monkeypatch.setattr(attachment, "ANSWER_S", seconds)

    answers_within(0.05)
    asked = asyncio.create_task(client.attach(TX))
    deaf = await edge.peer()
    await deaf.hear_until("attach")
    peer = await edge.peer()
    answers_within(PATIENCE_S)  # this one answers, if not at once
    await peer.attached()
    following = await asked
    answers_within(0.05)
    sent = asyncio.create_task(following.send(1))
    await peer.hear_until("send")
    again = await edge.peer()
    answers_within(PATIENCE_S)
    await again.attached()
    await again.hear_until("send")
    await again.receipt(1)
    assert await sent == 1


async def test_a_defect_is_told_to_those_who_follow(
    client: Client, edge: ScriptedEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    following, peer = await attach(client, edge)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client._link, "_route", broken)
    await peer.updates(1)
    with pytest.raises(Internal, match="ZeroDivisionError"):
        await anext(following)
    assert client._task is not None
    with pytest.raises(ZeroDivisionError):
        await client._task
    client._task = None
