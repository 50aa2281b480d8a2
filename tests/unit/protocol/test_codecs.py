"""Frames, good and bad."""

from __future__ import annotations

import json

import msgpack
import pytest

from orbit.errors import BadRequest, ProtocolError
from orbit.protocol.codecs import CODECS, JSON, MSGPACK, Codec
from orbit.protocol.entries import Failure
from orbit.protocol.json_codec import json_dumps, json_loads
from orbit.protocol.messages import (
    ABSENT,
    Attach,
    Cancel,
    Detach,
    End,
    Error,
    Malformed,
    Ping,
    Pong,
    Receipt,
    Reset,
    Send,
    Update,
)
from orbit.protocol.values import pack
from orbit.protocol.wire import MAX_MESSAGES

TX = "t" * 16
BOTH = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
BAD_SESSION = "session must be 16 to 64 characters of A-Za-z0-9_-"


def frame(codec: Codec, raw: object) -> str | bytes:
    return json.dumps(raw) if codec is JSON else msgpack.packb(raw)


def sending(data: str) -> str:
    return f'{{"type": "send", "tx": "{TX}", "mid": 1, "data": {data}}}'


# ---- what clients say


@BOTH
def test_client_messages_are_read(codec: Codec) -> None:
    cases = {
        "attach": ({"type": "attach", "tx": TX}, Attach(TX)),
        "attach anew": (
            {"type": "attach", "tx": TX, "after": "$", "session": "s" * 16, "token": "t"},
            Attach(TX, "$", "s" * 16, "t"),
        ),
        "nulls": ({"type": "attach", "tx": TX, "after": None, "session": None, "token": None}, Attach(TX)),
        "send": ({"type": "send", "tx": TX, "mid": 1, "data": None}, Send(TX, 1, None)),
        "cancel": ({"type": "cancel", "tx": TX, "reason": "r"}, Cancel(TX, "r")),
        "detach": ({"type": "detach", "tx": TX, "unknown": [1]}, Detach(TX)),
        "ping": ({"type": "ping"}, Ping()),
        "ping null": ({"type": "ping", "nonce": None}, Ping(None)),
    }
    for name, (raw, message) in cases.items():
        assert codec.decode_client(frame(codec, raw)) == [message], name
    everything = [raw for raw, _ in cases.values()]
    assert codec.decode_client(frame(codec, everything)) == [message for _, message in cases.values()]


@BOTH
@pytest.mark.parametrize(
    ("raw", "op", "tx", "mid", "reason"),
    [
        (5, None, None, None, "a message is an object with a type"),
        ([[]], None, None, None, "a message is an object with a type"),
        ({"tx": TX}, None, None, None, "type is missing"),
        ({"type": 5, "tx": TX}, None, None, None, "unknown type"),
        ({"type": "update", "tx": TX}, "update", None, None, "unknown type"),
        ({"type": "x" * 65}, None, None, None, "unknown type"),
        ({"type": "attach"}, "attach", None, None, "tx is missing"),
        ({"type": "attach", "tx": 7}, "attach", None, None, "tx must be text"),
        ({"type": "attach", "tx": "short"}, "attach", "short", None, "no such transaction"),
        ({"type": "cancel", "tx": "é" * 99}, "cancel", None, None, "no such transaction"),
        ({"type": "attach", "tx": TX, "after": "1-2"}, "attach", TX, None, "after is no cursor"),
        ({"type": "attach", "tx": TX, "after": 0}, "attach", TX, None, "after must be text"),
        ({"type": "attach", "tx": TX, "session": ""}, "attach", TX, None, BAD_SESSION),
        ({"type": "attach", "tx": TX, "token": {}}, "attach", TX, None, "token must be text"),
        ({"type": "cancel", "tx": TX, "reason": 1}, "cancel", TX, None, "reason must be text"),
        ({"type": "send", "tx": TX, "mid": 1}, "send", TX, 1, "data is missing"),
        ({"type": "send", "tx": TX, "data": 1}, "send", TX, None, "mid is missing"),
        ({"type": "send", "tx": TX, "mid": 0, "data": 1}, "send", TX, None, "mid must be a positive integer"),
        ({"type": "send", "tx": TX, "mid": -1, "data": 1}, "send", TX, None, "mid must be an integer"),
        ({"type": "send", "tx": TX, "mid": True, "data": 1}, "send", TX, None, "mid must be an integer"),
        ({"type": "send", "tx": TX, "mid": 1.0, "data": 1}, "send", TX, None, "mid must be an integer"),
        ({"type": "send", "tx": TX, "mid": 2**63, "data": 1}, "send", TX, None, "mid must be an integer"),
        ({"type": "send", "tx": "x" * 65, "mid": 1, "data": 1}, "send", None, 1, "tx is no transaction's id"),
    ],
)  # fmt: skip
def test_messages_that_mean_nothing_are_judged_alone(
    codec: Codec, raw: object, op: str | None, tx: str | None, mid: int | None, reason: str
) -> None:
    code = "not_found" if reason == "no such transaction" else "bad_request"
    malformed = Malformed(op, tx, mid, reason, code)
    members = raw if isinstance(raw, list) else [raw]
    good = {"type": "ping"}
    assert codec.decode_client(frame(codec, [good, *members, good])) == [Ping(), malformed, Ping()]


def test_a_send_may_name_a_transaction_that_cannot_be() -> None:
    assert JSON.decode_client('{"type": "send", "tx": "nope", "mid": 1, "data": 1}') == [Send("nope", 1, 1)]


@BOTH
def test_a_frame_holds_so_many_messages(codec: Codec) -> None:
    assert codec.decode_client(frame(codec, [])) == []
    assert len(codec.decode_client(frame(codec, [0] * MAX_MESSAGES))) == MAX_MESSAGES
    with pytest.raises(ProtocolError):
        codec.decode_client(frame(codec, [0] * (MAX_MESSAGES + 1)))


# ---- JSON from outside


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("NaN", "NaN or infinity"),
        ("-Infinity", "NaN or infinity"),
        ("1e999", "NaN or infinity"),
        ("9" * 20, "past signed 64 bits"),
        ("9" * 5000, "past signed 64 bits"),
        ("-" + "9" * 5000, "past signed 64 bits"),
        ('"\\ud800"', "lone surrogate"),
        ('{"\\ud800": 1}', "a key that is no text"),
        ("[" * 101 + "]" * 101, "nested too deep"),
        ('{"$bytes": "%%"}', "must be base64 text"),
        ('{"$bytes": "QQ"}', "must be base64 text"),
        ('{"$bytes": 1}', "must be base64 text"),
        ('{"$bytes": "\\ud800"}', "must be base64 text"),
        ('{"$set": 1}', r"written with one \$ more"),
        ('[{"$set": "' + "$" * 3 + '"}]', r"written with one \$ more"),
        ('{"$$a":' + "[" * 101 + "]" * 101 + "}", "nested too deep"),
    ],
)
def test_bad_data_spoils_its_message_alone(data: str, reason: str) -> None:
    [malformed, ping] = JSON.decode_client(f'[{sending(data)}, {{"type": "ping"}}]')
    assert isinstance(malformed, Malformed)
    assert (malformed.op, malformed.tx, malformed.mid, malformed.code) == ("send", TX, 1, "bad_request")
    with pytest.raises(BadRequest, match=reason):
        raise BadRequest(malformed.message)
    assert ping == Ping()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'{"type": "ping"} x',
        b"\xef\xbb\xbf{}",
        b'"\x01"',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        sending("[" * 100_000 + "]" * 100_000).encode(),
        b"nul",
        b"01",
    ],
)
def test_frames_that_cannot_be_read(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        JSON.decode_client(text, text=True)
    with pytest.raises(BadRequest):
        json_loads(text)


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    assert JSON.decode_client(sending('{"a": 1, "a": 2}')) == [Send(TX, 1, {"a": 2})]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$bytes": ""}', b""),
        ('{"$bytes": "AAE="}', b"\x00\x01"),
        ('{"\\u0024bytes": "AAE="}', b"\x00\x01"),
        ('{"$$bytes": "AAE="}', {"$bytes": "AAE="}),
        ('{"$$$": 1}', {"$$": 1}),
        ('{"$$": 1}', {"$": 1}),
        ('{"$a": 1, "$b": 2}', {"$a": 1, "$b": 2}),
        ('[{"$$a": {"$bytes": "/w=="}}]', [{"$a": b"\xff"}]),
        ("9223372036854775807", 2**63 - 1),
        ("1e3", 1000.0),
        ('"\\ud83c\\udf89"', "🎉"),
    ],
)
def test_values_of_json(text: str, value: object) -> None:
    assert JSON.decode_client(sending(text)) == [Send(TX, 1, value)]
    assert json_loads(text) == value
    assert json_loads(json_dumps(value)) == value


def test_bytes_may_stand_as_deep_as_anything_else() -> None:
    value: object = b"x"
    for _ in range(100):
        value = [value]
    assert json_loads(json_dumps(value)) == value


# ---- MessagePack from outside


@pytest.mark.parametrize(
    "data",
    [2**63, float("inf"), msgpack.ExtType(5, b"x"), msgpack.Timestamp(0), {b"a": 1}, {"a": msgpack.ExtType(1, b"")}],
)
def test_data_that_is_no_value_spoils_its_message_alone(data: object) -> None:
    packed = msgpack.packb([{"type": "send", "tx": TX, "mid": 1, "data": data}, {"type": "ping"}])
    [malformed, ping] = MSGPACK.decode_client(packed)
    assert isinstance(malformed, Malformed)
    assert (malformed.op, malformed.tx, malformed.mid, ping) == ("send", TX, 1, Ping())


def test_text_that_is_not_utf8_spoils_its_message_alone() -> None:
    packed = msgpack.packb({"type": "send", "tx": TX, "mid": 1, "data": "AAAA"}).replace(b"AAAA", b"A\xffAA")
    [malformed] = MSGPACK.decode_client(packed)
    assert malformed == Malformed("send", TX, 1, "data: text with a lone surrogate")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\xc0\xc0",
        b"\x81\x90\x90",
        b"\x91" * 100_000,
        msgpack.packb({"type": "ping", "nonce": {1: 2}}),
    ],
)
def test_packed_frames_that_cannot_be_read(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        MSGPACK.decode_client(packed)


# ---- frames of the other kind


@BOTH
def test_the_kind_of_a_frame_is_told_by_the_codec(codec: Codec) -> None:
    ping = codec.encode_client(Ping())
    assert codec.decode_client(ping, text=codec.text) == [Ping()]
    with pytest.raises(ProtocolError, match="frames"):
        codec.decode_client(ping, text=not codec.text)
    with pytest.raises(ProtocolError, match="frames"):
        codec.decode_client(ping if codec.text else "[]")


# ---- what edges say


@BOTH
def test_packed_data_is_spliced_in(codec: Codec) -> None:
    def read(encoded: bytes) -> object:
        [message] = codec.decode_edge(encoded, text=codec.text)
        return message

    data = {"$a": [b"\x00", {"$bytes": 1}], "n": 2**60, "ü": None}
    assert read(codec.encode_update(TX, "c", pack(data))) == Update(TX, "c", data)
    assert read(codec.encode_reset(TX, "c", "trimmed", pack(data), 3)) == Reset(TX, "c", "trimmed", data, 3)
    assert read(codec.encode_reset(TX, "c", "rewound", None, 0)) == Reset(TX, "c", "rewound", None, 0)
    assert read(codec.encode_end(TX, "c", "finished", pack(data), None)) == End(TX, "c", "finished", data)
    assert read(codec.encode_end(TX, "c", "finished", pack(None), None)) == End(TX, "c", "finished", None)
    failure = Failure("ValueError", "it failed")
    failed = End(TX, "c", "failed", ABSENT, {"type": "ValueError", "message": "it failed"})
    assert read(codec.encode_end(TX, "c", "failed", None, failure)) == failed


@BOTH
def test_absent_fields_are_not_written(codec: Codec) -> None:
    def written(message: Pong | Error | Receipt | Reset) -> object:
        encoded = codec.encode(message)
        return json.loads(encoded) if codec.text else msgpack.unpackb(encoded)

    assert written(Pong()) == {"type": "pong"}
    assert written(Pong(None)) == {"type": "pong", "nonce": None}
    assert written(Error("internal", "m")) == {"type": "error", "code": "internal", "message": "m"}
    assert written(Receipt(TX, 1)) == {"type": "receipt", "tx": TX, "mid": 1, "duplicate": False}
    assert written(Reset(TX, "c", "trimmed", None, 0)) == {
        "type": "reset", "tx": TX, "cursor": "c", "reason": "trimmed", "view": None, "last_mid": 0
    }  # fmt: skip


@BOTH
def test_a_newer_edge_may_say_more(codec: Codec) -> None:
    raw = [{"type": "news", "tx": TX}, {"type": "receipt", "tx": TX, "mid": 1, "duplicate": False, "more": 1}]
    assert codec.decode_edge(frame(codec, raw)) == [Receipt(TX, 1)]


@BOTH
@pytest.mark.parametrize(
    "raw",
    [5, {"tx": TX}, {"type": "receipt", "tx": TX}, {"type": "goaway", "reconnect_after_ms": "soon"},
     {"type": "end", "tx": TX, "cursor": "c", "status": "failed", "error": {"type": 1}},
     {"type": "receipt", "tx": TX, "mid": 1, "duplicate": 1}],
)  # fmt: skip
def test_an_edge_that_talks_nonsense_is_a_protocol_error(codec: Codec, raw: object) -> None:
    with pytest.raises(ProtocolError):
        codec.decode_edge(frame(codec, raw))


@BOTH
def test_several_messages_in_one_frame(codec: Codec) -> None:
    said = [Pong(1), Receipt(TX, 1), Error("internal", "why")]
    for count in range(1, 4):
        together = codec.together([codec.encode(message) for message in said[:count]])
        assert codec.decode_edge(together, text=codec.text) == said[:count]
