"""The golden vectors that every client and edge passes, whatever it is written in."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orbit.errors import ProtocolError
from orbit.protocol.codecs import JSON, MSGPACK
from orbit.protocol.messages import Malformed
from orbit.protocol.values import unpack

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def named(group: str) -> pytest.MarkDecorator:
    names = [f"{vector.get('codec', 'both')}: {vector['name']}" for vector in VECTORS[group]]
    return pytest.mark.parametrize("vector", VECTORS[group], ids=names)


@named("client")
def test_client_messages(vector: dict[str, str]) -> None:
    text, packed = vector["json"], bytes.fromhex(vector["msgpack"])
    [message] = JSON.decode_client(text)
    assert not isinstance(message, Malformed)
    assert repr(MSGPACK.decode_client(packed)) == repr([message])
    for codec in (JSON, MSGPACK):
        assert repr(codec.decode_client(codec.encode_client(message), text=codec.text)) == repr([message])
    assert json.loads(JSON.encode_client(message)).items() >= json.loads(text).items()


@named("edge")
def test_edge_messages(vector: dict[str, str]) -> None:
    text, packed = vector["json"], bytes.fromhex(vector["msgpack"])
    [message] = JSON.decode_edge(text)
    assert repr(MSGPACK.decode_edge(packed)) == repr([message])
    assert json.loads(JSON.encode(message)) == json.loads(text)
    assert unpack(MSGPACK.encode(message)) == unpack(packed)


@named("frames")
def test_frames_that_mean_nothing(vector: dict[str, Any]) -> None:
    def read() -> list[Any]:
        if vector["codec"] == "json":
            return [*JSON.decode_client(vector["text"])]
        return [*MSGPACK.decode_client(bytes.fromhex(vector["hex"]))]

    if "close" in vector:
        with pytest.raises(ProtocolError):
            read()
        return
    [malformed] = read()
    assert isinstance(malformed, Malformed)
    told = {name: value for name, value in asdict(malformed).items() if value is not None and name != "message"}
    assert told == vector["refused"]
