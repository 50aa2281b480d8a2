"""Following transactions over an edge: attach, resume, reset, what is for one session alone, ends."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from orbit.protocol.ids import Session
from orbit.protocol.values import pack
from orbit.store import types as t
from orbit.store.store import Store
from tests.integration.edge_bench import QUICK, Hand, RunningEdge, attach, take, updates

ANN, BOB = "ann-" + "a" * 16, "bob-" + "b" * 16


# ---- attach


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_from_the_start_and_then_live(edge: RunningEdge, hand: Hand, codec: str) -> None:
    await hand.update({"n": 1}, b"\x00\xff")
    link = await edge.link(codec)
    attached = await attach(link, hand)
    assert (attached["cursor"], attached["status"], attached["last_mid"]) == ("0", "running", 0)
    assert await updates(link, 2) == [{"n": 1}, b"\x00\xff"]
    await hand.update(2**62, {"$x": [1]})
    assert await updates(link, 2) == [2**62, {"$x": [1]}]


async def test_only_what_is_new(edge: RunningEdge, hand: Hand) -> None:
    done = await hand.update("old")
    link = await edge.link()
    attached = await attach(link, hand, after="$")
    assert attached["cursor"] == str(done.head)
    await hand.update("new")
    assert await updates(link, 1) == ["new"]


async def test_only_what_is_new_of_an_empty_log(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    assert (await attach(link, hand, after="$"))["cursor"] == "0"
    await hand.update("first")
    assert await updates(link, 1) == ["first"]


async def test_resume_after_a_cursor(edge: RunningEdge, hand: Hand) -> None:
    await hand.update(*range(10))
    link = await edge.link()
    await attach(link, hand)
    cursor = (await take(link, 4))[3]["cursor"]
    await link.close()
    link = await edge.link()
    assert (await attach(link, hand, after=cursor))["cursor"] == cursor
    assert await updates(link, 6) == [4, 5, 6, 7, 8, 9]


async def test_a_long_log_comes_in_pages_and_in_order(edge: RunningEdge, hand: Hand) -> None:
    for first in range(0, 3000, 500):
        await hand.update(*range(first, first + 500))
    link = await edge.link()
    await attach(link, hand)
    reading = asyncio.create_task(updates(link, 3500))
    for n in range(3000, 3500, 10):
        await hand.update(*range(n, n + 10))
    assert await reading == list(range(3500))


async def test_many_clients_one_transaction(edge: RunningEdge, other_edge: RunningEdge, hand: Hand) -> None:
    links = [await one.link(codec) for one in (edge, other_edge) for codec in ("json", "msgpack") for _ in range(5)]
    for n, link in enumerate(links):
        await hand.update(n)
        await attach(link, hand)
    await hand.update("last")
    for link in links:
        assert await updates(link, len(links) + 1) == [*range(len(links)), "last"]
    assert await edge.counted("watched") == 1


async def test_many_transactions_on_one_connection(edge: RunningEdge, store: Store) -> None:
    hands = [await Hand.start(store) for _ in range(20)]
    link = await edge.link()
    for hand in hands:
        await attach(link, hand)
    for hand in hands:
        await hand.update(hand.tx)
    assert {message["tx"]: message["data"] for message in await take(link, 20)} == {hand.tx: hand.tx for hand in hands}


async def test_a_session_of_the_edges_choice_is_long_and_new(edge: RunningEdge, hand: Hand) -> None:
    link, other = await edge.link(), await edge.link()
    sessions = {(await attach(one, hand))["session"] for one in (link, other)}
    assert len(sessions) == 2
    assert all(len(session) >= 22 for session in sessions)


async def test_an_unknown_transaction(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    tx = secrets.token_urlsafe(16)
    await link.send({"type": "attach", "tx": tx})
    error = await link.expect("attached", "error")
    assert (error["code"], error["op"], error["tx"]) == ("not_found", "attach", tx)
    await attach(link, hand)
    await hand.update(1)
    assert await updates(link, 1) == [1]


async def test_attached_anew_on_the_same_connection(edge: RunningEdge, hand: Hand) -> None:
    await hand.update(1, 2)
    link = await edge.link()
    first = await attach(link, hand, session=ANN)
    assert await updates(link, 2) == [1, 2]
    assert (await attach(link, hand, session=first["session"]))["type"] == "attached"
    assert await updates(link, 2) == [1, 2]
    await hand.update(3)
    assert await updates(link, 1) == [3]
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "still its place"})
    assert (await link.expect("receipt", "rejected", "error"))["type"] == "receipt"


async def test_attached_anew_as_another_session_frees_the_first(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await attach(link, hand, session=BOB)
    while True:
        rows, _ = await hand.store.sessions(hand.tx)
        if [row.session for row in rows] == [hand.public(BOB)]:
            break


@pytest.mark.parametrize("bad", [{"after": "1-2"}, {"after": 7}, {"session": "short"}, {"session": 7}])
async def test_a_bad_attach_ends_the_attachment_before(edge: RunningEdge, hand: Hand, bad: dict[str, object]) -> None:
    link = await edge.link()
    await attach(link, hand)
    error = await attach(link, hand, **bad)
    assert (error["type"], error["code"], error["op"]) == ("error", "bad_request", "attach")
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    assert (await link.expect("rejected"))["code"] == "bad_request"


async def test_attaches_are_limited(redis_url: str, namespace: str, store: Store) -> None:
    from orbit.config import Limits

    edge = await RunningEdge(redis_url, namespace, {"limits": Limits(attaches=2)}).start()
    try:
        hands = [await Hand.start(store) for _ in range(3)]
        link = await edge.link()
        answers = [await attach(link, hand) for hand in hands]
        assert [answer["type"] for answer in answers] == ["attached", "attached", "error"]
        assert answers[2]["code"] == "overloaded"
        await link.send({"type": "detach", "tx": hands[0].tx})
        await link.expect("detached")
        assert (await attach(link, hands[2]))["type"] == "attached"
    finally:
        await edge.close()


async def test_detach(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.send({"type": "detach", "tx": hand.tx})
    assert await link.expect("detached") == {"type": "detached", "tx": hand.tx}
    await hand.update("unheard")
    await link.send({"type": "ping", "nonce": 1})
    assert (await link.read())[0]["type"] == "pong"
    while (await hand.store.sessions(hand.tx))[1]:
        pass


async def test_detached_when_the_connection_breaks(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    assert (await hand.store.sessions(hand.tx))[1] == 1
    link.abort()
    while (await hand.store.sessions(hand.tx))[1]:
        pass


async def test_ping(edge: RunningEdge) -> None:
    link = await edge.link("msgpack")
    await link.send({"type": "ping", "nonce": {"any": [b"thing"]}})
    assert await link.expect("pong") == {"type": "pong", "nonce": {"any": [b"thing"]}}


# ---- sessions


async def test_a_newer_attach_elsewhere_replaces_the_older(
    edge: RunningEdge, other_edge: RunningEdge, hand: Hand
) -> None:
    old = await edge.link()
    await attach(old, hand, session=ANN)
    new = await other_edge.link()
    await attach(new, hand, session=ANN)
    error = await old.expect("error")
    assert (error["code"], error["tx"], error.get("op")) == ("replaced", hand.tx, None)
    await old.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    assert (await old.expect("rejected"))["code"] == "replaced"
    await new.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    await new.expect("receipt")
    await hand.update("for the new one")
    assert await updates(new, 1) == ["for the new one"]


async def test_a_newer_attach_on_the_same_edge_replaces_the_older(edge: RunningEdge, hand: Hand) -> None:
    old, new = await edge.link(), await edge.link()
    await attach(old, hand, session=ANN)
    await attach(new, hand, session=ANN)
    assert (await old.expect("error"))["code"] == "replaced"


async def test_replaced_without_a_word_is_seen_at_the_next_message(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    place = t.Place("elsewhere", "1", "1")
    await hand.store.attach(hand.tx, hand.public(ANN), place, None)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    answers = await take(link, 2, "rejected", "error")
    assert {answer["type"]: answer["code"] for answer in answers} == {"rejected": "replaced", "error": "replaced"}


async def test_barred(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await hand.commit(barred=((hand.public(ANN), "not you"),))
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    rejected, error = await take(link, 2, "rejected", "error")
    assert rejected["code"] == "forbidden"
    assert (error["code"], error.get("op"), error["message"]) == ("forbidden", None, "not you")
    again = await attach(link, hand, session=ANN)
    assert (again["type"], again["code"], again["op"]) == ("error", "forbidden", "attach")


async def test_barred_at_once_where_the_worker_says_so(edge: RunningEdge, hand: Hand) -> None:
    import msgpack

    link = await edge.link()
    await attach(link, hand, session=ANN)
    row = await hand.store.session(hand.tx, hand.public(ANN))
    assert row is not None
    assert row.place is not None
    told = {"t": "barred", "tx": hand.tx, "c": row.place.connection, "a": row.place.attach, "m": "not you"}
    await hand.store.tell_edge(row.place.edge, msgpack.packb(told))
    error = await link.expect("error")
    assert (error["code"], error["message"], error.get("op")) == ("forbidden", "not you", None)


# ---- what is for one session alone


async def test_what_is_for_one_session_reaches_it_alone(edge: RunningEdge, hand: Hand) -> None:
    ann, bob = await edge.link(), await edge.link()
    await attach(ann, hand, session=ANN)
    await attach(bob, hand, session=BOB)
    await hand.update("all")
    await hand.update("for ann", session=ANN)
    done = await hand.refuse(ANN, 1)
    assert await updates(ann, 2) == ["all", "for ann"]
    assert (await ann.expect("rejected"))["cursor"] == str(done.head)
    assert await updates(bob, 1) == ["all"]
    told = await bob.read()
    while told[-1]["cursor"] != str(done.head):  # in two parts, where there was time between the commits
        told += await bob.read()
    assert {message["type"] for message in told} == {"advance"}
    assert told[-1] == {"type": "advance", "tx": hand.tx, "cursor": str(done.head)}
    await hand.update("all again")
    assert await updates(bob, 1) == ["all again"]


async def test_a_resume_gets_its_own_and_passes_by_the_others(edge: RunningEdge, hand: Hand) -> None:
    await hand.update("all")
    await hand.update("for ann", session=ANN)
    done = await hand.update("for bob", session=BOB)
    ann, bob = await edge.link(), await edge.link("msgpack")
    await attach(ann, hand, session=ANN)
    await attach(bob, hand, session=BOB)
    assert await updates(ann, 2) == ["all", "for ann"]
    assert (await ann.expect("advance"))["cursor"] == str(done.head)
    assert await updates(bob, 2) == ["all", "for bob"]


async def test_a_thousand_private_updates_are_few_advances(edge: RunningEdge, hand: Hand) -> None:
    ann, bob = await edge.link(), await edge.link()
    await attach(ann, hand, session=ANN)
    await attach(bob, hand, session=BOB)
    before = asyncio.get_running_loop().time()
    for n in range(0, 1000, 10):
        done = await hand.update(*range(n, n + 10), session=ANN)
    assert await updates(ann, 1000) == list(range(1000))
    advances = 0
    while (await bob.expect("advance"))["cursor"] != str(done.head):
        advances += 1
    took_s = asyncio.get_running_loop().time() - before
    assert advances < max(30, 2 + took_s / QUICK.advance_s)


# ---- ends


@pytest.mark.parametrize("late", [False, True])
async def test_an_end_detaches(edge: RunningEdge, hand: Hand, *, late: bool) -> None:
    link = await edge.link()
    if not late:
        await attach(link, hand)
    await hand.update(1)
    done = await hand.finish({"ok": True})
    if late:
        assert (await attach(link, hand))["status"] == "finished"
    assert await updates(link, 1) == [1]
    end = await link.expect("end")
    assert end == {
        "type": "end", "tx": hand.tx, "cursor": str(done.head), "status": "finished", "result": {"ok": True},
    }  # fmt: skip
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    assert (await link.expect("rejected"))["code"] == "ended"


async def test_a_failure_is_told_without_more_than_it_may(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand)
    await hand.fail("ValueError", "the State failed")
    end = await link.expect("end")
    assert (end["status"], end["error"]) == ("failed", {"type": "ValueError", "message": "the State failed"})
    assert "result" not in end


async def test_messages_left_at_the_end_are_rejected_before_it(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    await link.expect("receipt")
    await hand.finish()
    rejected, end = await take(link, 2, "rejected", "end")
    assert (rejected["mid"], rejected["code"]) == (1, "ended")
    assert rejected["cursor"] != end["cursor"]


async def test_who_resumes_from_the_end_is_told_no_second_one(edge: RunningEdge, hand: Hand) -> None:
    done = await hand.finish()
    link = await edge.link()
    attached = await attach(link, hand, after=str(done.head))
    assert (attached["status"], attached["cursor"]) == ("finished", str(done.head))
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    assert (await link.expect("rejected", "end"))["code"] == "ended"


async def test_cancel(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand)
    await hand.claim()
    await link.send({"type": "cancel", "tx": hand.tx, "reason": "enough"})
    assert await link.expect("cancelled") == {"type": "cancelled", "tx": hand.tx}
    assert (await hand.update(1)).cancel == "enough"


async def test_cancel_of_what_never_ran_ends_it(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand)
    await link.send({"type": "cancel", "tx": hand.tx})
    assert {message["type"] for message in await take(link, 2, "cancelled", "end")} == {"cancelled", "end"}
    await link.send({"type": "cancel", "tx": hand.tx})
    error = await link.expect("error")
    assert (error["code"], error["op"]) == ("ended", "cancel")


async def test_cancel_needs_no_attach_but_a_transaction(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await link.send({"type": "cancel", "tx": secrets.token_urlsafe(16)})
    assert (await link.expect("error"))["code"] == "not_found"
    await link.send({"type": "cancel", "tx": hand.tx, "reason": "x" * 10_000})
    assert (await link.expect("error"))["code"] == "bad_request"
    await link.send({"type": "cancel", "tx": hand.tx})
    await link.expect("cancelled")


# ---- resets


async def trimmed(hand: Hand, view: object) -> str:
    """A log of which the first entries are gone, and its head."""
    await hand.update(*range(20))
    await hand.commit(snapshot=b"{}", view=None if view is None else pack(view))
    for n in range(20, 60, 10):
        done = await hand.update(*range(n, n + 10))
        await hand.commit(snapshot=b"{}", view=None if view is None else pack(view))
    return str(done.head)


@pytest.mark.parametrize("view", [None, {"so": "far"}])
async def test_a_trimmed_log_is_told_right_after_attached(edge: RunningEdge, store: Store, view: object) -> None:
    hand = await Hand.start(store, keep=10)
    await trimmed(hand, view)
    link = await edge.link()
    attached = await attach(link, hand)
    [reset] = await link.read()
    assert (reset["type"], reset["reason"], reset["view"], reset["last_mid"]) == ("reset", "trimmed", view, 0)
    assert attached["cursor"] == reset["cursor"] != "0"
    after = int(reset["cursor"].partition("-")[0])
    await hand.update(60)
    assert await updates(link, 61 - after) == list(range(after, 61))


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_reset_comes_in_one_frame_with_its_attached(edge: RunningEdge, hand: Hand, codec: str) -> None:
    """A connection that broke between the two would leave a client at the reset's cursor that never heard of it."""
    done = await hand.update(1)
    link = await edge.link(codec)
    await link.send({"type": "attach", "tx": hand.tx, "after": "9" + str(done.head)})
    assert [message["type"] for message in await link.read()] == ["attached", "reset"]


async def test_a_cursor_of_another_history_is_told_as_rewound(edge: RunningEdge, hand: Hand) -> None:
    done = await hand.update(1)
    link = await edge.link()
    other = str(done.head)[:-1] + ("0" if not str(done.head).endswith("0") else "1")
    attached = await attach(link, hand, after=other)
    reset = await link.expect("reset")
    assert (reset["reason"], reset["cursor"], attached["cursor"]) == ("rewound", "0", "0")
    assert await updates(link, 1) == [1]


async def test_a_cursor_of_the_future_is_told_as_rewound(edge: RunningEdge, hand: Hand) -> None:
    done = await hand.update(1)
    link = await edge.link()
    await attach(link, hand, after="9" + str(done.head))
    assert (await link.expect("reset"))["reason"] == "rewound"


async def test_removed_while_it_is_watched(edge: RunningEdge, store: Store) -> None:
    hand = await Hand.start(store, retain_s=0.0)
    link = await edge.link()
    await hand.finish()
    await attach(link, hand, after="$")
    assert await store.remove(hand.tx)
    error = await link.expect("error")
    assert (error["code"], error["tx"], error.get("op")) == ("gone", hand.tx, None)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    assert (await link.expect("rejected"))["code"] == "bad_request"


async def test_sessions_belong_to_one_transaction(edge: RunningEdge, store: Store) -> None:
    one, two = await Hand.start(store), await Hand.start(store)
    link = await edge.link()
    await attach(link, one, session=ANN)
    await attach(link, two, session=ANN)
    assert one.store.public_name(one.tx, Session(ANN)) != two.store.public_name(two.tx, Session(ANN))
    for hand in (one, two):
        await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": None})
    assert {message["tx"] for message in await take(link, 2, "receipt")} == {one.tx, two.tx}
