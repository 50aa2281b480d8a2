"""Messages to a State over an edge: each of the five answers, their order, and what can't be read."""

from __future__ import annotations

import json
import secrets
from typing import Any

import msgpack
import pytest

from orbit.protocol.ids import TxId
from orbit.protocol.values import unpack
from orbit.store.store import Store
from tests.integration.edge_bench import Hand, RunningEdge, attach, closed_with, take, updates

ANN = "ann-" + "a" * 16


def send(tx: str, mid: Any, data: Any = None) -> dict[str, Any]:
    return {"type": "send", "tx": tx, "mid": mid, "data": data}


# ---- the answers


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_message_is_stored_and_receipted(edge: RunningEdge, hand: Hand, codec: str) -> None:
    link = await edge.link(codec)
    await attach(link, hand, session=ANN)
    await link.send(send(hand.tx, 1, {"raw": b"\x00", "n": 2**63 - 1}))
    assert await link.expect("receipt") == {"type": "receipt", "tx": hand.tx, "mid": 1, "duplicate": False}
    [entry] = await hand.inbox()
    assert (unpack(entry.data), entry.mid, entry.session) == ({"raw": b"\x00", "n": 2**63 - 1}, 1, hand.public(ANN))
    row = await hand.store.session(hand.tx, hand.public(ANN))
    assert row is not None
    assert entry.place == str(row.place)


async def test_the_same_mid_again_is_a_duplicate_whatever_it_holds(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.send(send(hand.tx, 1, "one"), send(hand.tx, 1, "other"))
    receipts = await take(link, 2, "receipt")
    assert [receipt["duplicate"] for receipt in receipts] == [False, True]
    assert [unpack(entry.data) for entry in await hand.inbox()] == ["one"]


async def test_many_at_once_reach_the_store_in_order(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    for first in range(1, 901, 300):
        await link.send(*(send(hand.tx, mid, mid) for mid in range(first, first + 300)))
    assert [receipt["mid"] for receipt in await take(link, 900, "receipt", "rejected")] == list(range(1, 901))
    assert [unpack(entry.data) for entry in await hand.inbox()] == list(range(1, 901))


async def test_what_follows_a_refused_message_is_refused_too(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.send(send(hand.tx, 1), send(hand.tx, 3), send(hand.tx, 4))
    receipt, third, fourth = await take(link, 3, "receipt", "rejected")
    assert receipt["mid"] == 1
    assert [(one["mid"], one["code"], one["last_mid"]) for one in (third, fourth)] == [
        (3, "out_of_order", 1), (4, "out_of_order", 1),
    ]  # fmt: skip
    assert "cursor" not in third


async def test_attached_tells_what_is_stored(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.send(send(hand.tx, 1), send(hand.tx, 2))
    await take(link, 2, "receipt")
    await link.close()
    link = await edge.link()
    assert (await attach(link, hand, session=ANN))["last_mid"] == 2


async def test_too_large(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link("msgpack")
    await attach(link, hand, session=ANN)
    await link.send(send(hand.tx, 1, b"x" * (1024 * 1024)))
    rejected = await link.expect("rejected")
    assert (rejected["code"], rejected["mid"]) == ("too_large", 1)
    assert "1048576" in rejected["message"]
    await link.send(send(hand.tx, 1, b"x" * (1024 * 1024 - 5)))
    await link.expect("receipt")


async def test_a_full_inbox(redis_url: str, namespace: str, store: Store) -> None:
    from orbit.config import Limits

    edge = await RunningEdge(redis_url, namespace, {"limits": Limits(inbox_messages=2)}).start()
    try:
        hand = await Hand.start(store)
        link = await edge.link()
        await attach(link, hand, session=ANN)
        await link.send(*(send(hand.tx, mid) for mid in (1, 2, 3)))
        await take(link, 2, "receipt")
        rejected = await link.expect("rejected")
        assert (rejected["code"], rejected["mid"], rejected["last_mid"]) == ("overloaded", 3, 2)
        assert rejected["retry_after_ms"] > 0
        [first, *_] = await hand.inbox()
        await hand.commit(consumed=(first.id,))
        await link.send(send(hand.tx, 3))
        await link.expect("receipt")
    finally:
        await edge.close()


async def test_not_attached(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await link.send(send(hand.tx, 1))
    assert (await link.expect("rejected"))["code"] == "bad_request"
    await attach(link, hand)
    await link.send({"type": "detach", "tx": hand.tx}, send(hand.tx, 1))
    await link.expect("detached")
    assert (await link.expect("rejected"))["code"] == "bad_request"


async def test_ended_before_the_client_heard_of_it(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, after="$")
    await hand.finish()
    await link.send(send(hand.tx, 1))
    assert {message["type"] for message in await take(link, 2, "rejected", "end")} == {"rejected", "end"}


async def test_attach_and_sends_in_one_frame(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await link.send({"type": "attach", "tx": hand.tx, "session": ANN}, send(hand.tx, 1), send(hand.tx, 2))
    assert [message["type"] for message in await take(link, 3, "attached", "receipt", "rejected", "error")] == [
        "attached", "receipt", "receipt",
    ]  # fmt: skip


async def test_two_transactions_do_not_wait_for_each_other(edge: RunningEdge, store: Store) -> None:
    one, two = await Hand.start(store), await Hand.start(store)
    link = await edge.link()
    await attach(link, one, session=ANN)
    await attach(link, two, session=ANN)
    await link.send(*(send(hand.tx, mid) for mid in range(1, 101) for hand in (one, two)))
    got = await take(link, 200, "receipt")
    for hand in (one, two):
        assert [message["mid"] for message in got if message["tx"] == hand.tx] == list(range(1, 101))


# ---- bad input, message by message

BAD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "dance"}, {"type": "error", "code": "bad_request"}),
    ({"no": "type"}, {"type": "error", "code": "bad_request"}),
    ({"type": 7}, {"type": "error", "code": "bad_request"}),
    ({"type": "attach"}, {"type": "error", "op": "attach", "code": "bad_request"}),
    ({"type": "attach", "tx": 7}, {"type": "error", "op": "attach", "code": "bad_request"}),
    ({"type": "attach", "tx": "x"}, {"type": "error", "op": "attach", "code": "not_found"}),
    ({"type": "attach", "tx": "../../../etc/passwd"}, {"type": "error", "op": "attach", "code": "not_found"}),
    ({"type": "attach", "tx": "TX", "after": "yesterday"}, {"type": "error", "op": "attach", "code": "bad_request"}),
    ({"type": "attach", "tx": "TX", "after": "1-" + "9" * 20}, {"type": "error", "op": "attach"}),
    ({"type": "attach", "tx": "TX", "after": "-1"}, {"type": "error", "op": "attach", "code": "bad_request"}),
    ({"type": "attach", "tx": "TX", "session": "a b" * 8}, {"type": "error", "op": "attach", "code": "bad_request"}),
    ({"type": "attach", "tx": "TX", "session": "x" * 65}, {"type": "error", "op": "attach", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": 0, "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": -1, "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": 1.5, "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": "1", "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": True, "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": None, "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "data": 1}, {"type": "error", "op": "send", "code": "bad_request"}),
    ({"type": "send", "tx": "TX", "mid": 1}, {"type": "rejected", "mid": 1, "code": "bad_request"}),
    ({"type": "detach"}, {"type": "error", "op": "detach", "code": "bad_request"}),
    ({"type": "cancel", "tx": "TX", "reason": 7}, {"type": "error", "op": "cancel", "code": "bad_request"}),
]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize(("message", "answer"), BAD)
async def test_a_bad_message_harms_nothing_else(
    edge: RunningEdge, store: Store, codec: str, message: dict[str, Any], answer: dict[str, Any]
) -> None:
    sound, other = await Hand.start(store), await Hand.start(store)
    link = await edge.link(codec)
    await attach(link, sound, session=ANN)
    bad = {key: other.tx if value == "TX" else value for key, value in message.items()}
    await link.send(bad, send(sound.tx, 1))
    told = await take(link, 2, "error", "rejected", "receipt")
    [refused] = [one for one in told if one["type"] != "receipt"]
    assert {key: refused.get(key) for key in answer} == answer
    await sound.update("goes on")
    assert await updates(link, 1) == ["goes on"]


VALUES = {
    "NaN": "NaN",
    "infinity": "1e999",
    "minus infinity": "-Infinity",
    "past 64 bits": str(2**63),
    "5,000 digits": "9" * 5000,
    "a lone surrogate": '"\\ud800"',
    "a key with a lone surrogate": '{"\\udfff": 1}',
    "nested 101 deep": "[" * 101 + "]" * 101,
    "bytes that aren't base64": '{"$bytes": "?"}',
    "bytes that are no text": '{"$bytes": 1}',
    "an unknown $ key": '{"$date": 1}',
}


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES.keys())
async def test_a_value_that_is_none_is_rejected(edge: RunningEdge, hand: Hand, text: str) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await link.ws.send(f'{{"type":"send","tx":"{hand.tx}","mid":1,"data":{text}}}')
    rejected = await link.expect("rejected", "receipt", "error")
    assert (rejected["type"], rejected["code"], rejected["mid"]) == ("rejected", "bad_request", 1)
    assert "cursor" not in rejected
    await link.send(send(hand.tx, 1))
    await link.expect("receipt")


FRAMES: dict[str, tuple[str, str | bytes]] = {
    "no JSON": ("json", "no JSON"),
    "half of JSON": ("json", '{"type":"ping"'),
    "nothing": ("json", ""),
    "100,000 brackets": ("json", "[" * 100_000),
    "100,000 objects": ("json", '{"a":' * 100_000),
    "a binary frame": ("json", b'{"type":"ping"}'),
    "text under msgpack": ("msgpack", '{"type":"ping"}'),
    "no msgpack": ("msgpack", b"\xc1"),
    "half of msgpack": ("msgpack", b"\x82\xa1"),
    "msgpack and more": ("msgpack", msgpack.packb({"type": "ping"}) * 2),
    "100,000 arrays": ("msgpack", b"\x91" * 100_000),
    "an array longer than its frame": ("msgpack", b"\xdd\xff\xff\xff\xff"),
    "numbers as keys": ("msgpack", msgpack.packb({1: 2})),
    "too many messages": ("json", json.dumps([1] * 10_001)),
}


@pytest.mark.parametrize(("codec", "frame"), FRAMES.values(), ids=FRAMES.keys())
async def test_a_frame_that_can_not_be_read_closes_that_connection_alone(
    edge: RunningEdge, hand: Hand, codec: str, frame: str | bytes
) -> None:
    bad, sound = await edge.link(codec), await edge.link(codec)
    await attach(sound, hand)
    await bad.ws.send(frame)
    assert await closed_with(bad) == 4400
    await hand.update("goes on")
    assert await updates(sound, 1) == ["goes on"]


async def test_a_frame_over_the_limit(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand)
    await link.ws.send("x" * (2 * 1024 * 1024 + 1))
    assert await closed_with(link) == 1009


async def test_unknown_fields_are_ignored(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN, colour="blue")
    await link.send({**send(hand.tx, 1), "later": {"$not": "a value"}})
    await link.expect("receipt")


async def test_a_message_to_what_redis_lost(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await hand.store.link.write("DEL", hand.store.keys.transaction(hand.tx))
    await link.send(send(hand.tx, 1))
    rejected, error = await take(link, 2, "rejected", "error")
    assert (rejected["code"], error["code"], error.get("op")) == ("not_found", "not_found", None)


async def test_no_secret_is_echoed(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await link.send({"type": "attach", "tx": TxId(secrets.token_urlsafe(16)), "session": ANN, "token": "t0ken"})
    error = await link.expect("error")
    assert ANN not in json.dumps(error)
    assert "t0ken" not in json.dumps(error)


async def test_a_defect_is_answered_and_shows_nothing(
    edge: RunningEdge, hand: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> object:
        raise RuntimeError("the secret of the house")

    link = await edge.link()
    await attach(link, hand, session=ANN)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", broken)
        await link.send(send(hand.tx, 1))
        error = await link.expect("error")
    assert (error["code"], error["op"], error["mid"]) == ("internal", "send", 1)
    assert "secret" not in json.dumps(error)
    assert "the secret of the house" in caplog.text
    await link.send(send(hand.tx, 1))
    await link.expect("receipt")
    assert await edge.counted("defects_total") == 1
