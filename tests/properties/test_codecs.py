"""Any bytes give messages or a protocol error; what is encoded is decoded the same, in both codecs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbit.errors import BadRequest, ProtocolError
from orbit.protocol.codecs import CODECS, Codec
from orbit.protocol.entries import Failure
from orbit.protocol.json_codec import json_dumps, json_loads
from orbit.protocol.messages import (
    ABSENT,
    Attach,
    Cancel,
    ClientMessage,
    Detach,
    EdgeMessage,
    End,
    Malformed,
    Ping,
    Reset,
    Send,
    Update,
)
from orbit.protocol.values import INT_MAX, INT_MIN, pack, unpack

BOTH = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)

names = st.text("abcXYZ019_-", min_size=16, max_size=64)
cursors = st.just("0") | st.builds("{}-{:019d}".format, st.integers(1, 10**15), st.integers(0, 10**18))
texts = st.text(max_size=20)
keys = texts | st.sampled_from(["$", "$$", "$bytes", "$$bytes", "$x"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary(max_size=20)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)
client_messages: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(Attach, names, cursors | st.just("$"), st.none() | names, st.none() | texts),
    st.builds(Send, names, st.integers(1, INT_MAX), values),
    st.builds(Cancel, names, st.none() | texts),
    st.builds(Detach, names),
    st.builds(Ping, st.just(ABSENT) | values),
)
counts = st.integers(0, INT_MAX)
kinds: dict[str, st.SearchStrategy[Any]] = {
    "str": texts,
    "str | None": st.none() | texts,
    "int": counts,
    "int | None": st.none() | counts,
    "bool": st.booleans(),
    "Value": values,
    "Value | Absent": st.just(ABSENT) | values,
    "dict[str, str] | None": st.none() | st.dictionaries(texts, texts, max_size=2),
}


def edge_message(kind: type[EdgeMessage]) -> st.SearchStrategy[EdgeMessage]:
    return st.builds(kind, **{field.name: kinds[str(field.type)] for field in fields(kind)})


edge_messages = st.one_of(*map(edge_message, get_args(EdgeMessage)))

anything = st.recursive(
    scalars | st.floats() | st.integers(-(2**70), 2**70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)
odd_messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["attach", "send", "cancel", "detach", "ping", "update", "zzz"]) | anything,
        "tx": names | anything,
        "mid": st.integers(-1, 3) | anything,
        "data": anything,
        "after": cursors | anything,
        "session": names | anything,
        "token": anything,
        "reason": anything,
        "nonce": anything,
    },
)


def judge(codec: Codec, frame: bytes, *, text: bool) -> None:
    """Messages or a protocol error, and what was taken can be said on."""
    with suppress(ProtocolError):
        for message in codec.decode_client(frame, text=text):
            if isinstance(message, Malformed):
                assert message.op is not None or message.tx is None
                (message.message + (message.op or "") + (message.tx or "")).encode()
            else:
                assert codec.decode_client(codec.encode_client(message), text=codec.text) == [message]


@BOTH
@settings(max_examples=300)
@given(frame=st.binary(max_size=200), text=st.booleans())
def test_any_bytes(codec: Codec, frame: bytes, text: bool) -> None:
    judge(codec, frame, text=text)
    with suppress(ProtocolError):
        codec.decode_edge(frame, text=text)
    with suppress(BadRequest):
        json_loads(frame)
    with suppress(BadRequest):
        unpack(frame)


@BOTH
@settings(max_examples=300)
@given(message=client_messages, at=st.integers(0, 400), gone=st.integers(0, 3), new=st.binary(max_size=4))
def test_almost_a_message(codec: Codec, message: ClientMessage, at: int, gone: int, new: bytes) -> None:
    frame = codec.encode_client(message)
    judge(codec, frame[:at] + new + frame[at + gone :], text=codec.text)


@BOTH
@settings(max_examples=300)
@given(raw=odd_messages | st.lists(odd_messages, max_size=3))
def test_fields_of_any_kind(codec: Codec, raw: Any) -> None:
    def as_text(value: object) -> object:
        return {"$bytes": value.hex()} if isinstance(value, bytes) else str(value)

    try:
        frame = json.dumps(raw, default=as_text).encode() if codec.text else msgpack.packb(raw)
    except (OverflowError, ValueError):
        return  # MessagePack has no such integers
    judge(codec, frame, text=codec.text)


@BOTH
@settings(max_examples=200)
@given(messages=st.lists(client_messages, max_size=3))
def test_what_a_client_says_is_heard_the_same(codec: Codec, messages: list[ClientMessage]) -> None:
    for message in messages:
        assert codec.decode_client(codec.encode_client(message), text=codec.text) == [message]


@BOTH
@settings(max_examples=300)
@given(message=edge_messages)
def test_what_an_edge_says_is_heard_the_same(codec: Codec, message: EdgeMessage) -> None:
    assert codec.decode_edge(codec.encode(message), text=codec.text) == [message]


@BOTH
@given(tx=names, cursor=cursors, value=values)
def test_packed_values_are_heard_as_plain_ones(codec: Codec, tx: str, cursor: str, value: Any) -> None:
    def heard(frame: bytes) -> EdgeMessage:
        [message] = codec.decode_edge(frame, text=codec.text)
        return message

    packed = pack(value)
    assert heard(codec.encode_update(tx, cursor, packed)) == Update(tx, cursor, value)
    assert heard(codec.encode_reset(tx, cursor, "rewound", packed, 1)) == Reset(tx, cursor, "rewound", value, 1)
    error = Failure("E", "m")
    told = {"type": "E", "message": "m"}
    assert heard(codec.encode_end(tx, cursor, "failed", packed, error)) == End(tx, cursor, "failed", value, told)


@given(values)
def test_values_come_back(value: Any) -> None:
    for back in (unpack(pack(value)), json_loads(json_dumps(value))):
        assert back == value
        assert repr(back) == repr(value), "1 is not 1.0 nor True"
