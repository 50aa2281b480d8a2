"""Frames, as a WebSocket client reads them."""

from __future__ import annotations

import msgpack
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from orbit.edge.frames import Rendered, frame
from orbit.protocol.codecs import JSON, MSGPACK, Codec
from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import EndEntry, Entry, RefusalEntry, UpdateEntry
from orbit.protocol.ids import Epoch, PublicName
from orbit.protocol.replay import Batch

EPOCH = Epoch("0" * 18 + "1")


def read(data: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://x/"), state=OPEN, max_size=None)
    client.receive_data(data)
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 2 * 1024 * 1024])
@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_a_frame_of_any_size_is_read_back(size: int, codec: Codec) -> None:
    [got] = read(frame(b"x" * size, text=codec.text))
    assert got == Frame(Opcode.TEXT if codec.text else Opcode.BINARY, b"x" * size)


def entries() -> tuple[Entry, ...]:
    return (
        UpdateEntry(Cursor(1, EPOCH), msgpack.packb({"n": 1})),
        RefusalEntry(Cursor(2, EPOCH), PublicName("p"), 7, "state_error", "no"),
        EndEntry(Cursor(3, EPOCH), "finished", result=msgpack.packb(b"\x00")),
    )


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_entries_are_told_as_messages(codec: Codec) -> None:
    batch = Batch(START, entries(), over=True)
    frames = read(Rendered("t" * 16, batch).frames(batch.entries, codec))
    told = [codec.decode_edge(bytes(one.data), text=codec.text)[0] for one in frames]
    assert [message.type for message in told] == ["update", "rejected", "end"]
    assert [getattr(message, "cursor", None) for message in told] == [str(entry.cursor) for entry in batch.entries]


def test_a_whole_batch_is_rendered_once_for_all() -> None:
    batch = Batch(START, entries()[:1], over=False)
    rendered = Rendered("t" * 16, batch)
    assert rendered.frames(batch.entries, JSON) is rendered.frames(batch.entries, JSON)


def test_some_entries_of_a_batch() -> None:
    batch = Batch(START, entries(), over=True)
    frames = read(Rendered("t" * 16, batch).frames((batch.entries[1],), JSON))
    assert len(frames) == 1
    assert b'"mid":7' in bytes(frames[0].data)
