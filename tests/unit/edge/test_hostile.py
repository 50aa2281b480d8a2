"""Whatever bytes come, a connection answers or closes: it never raises, and it never writes without bound."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from orbit.edge.connection import OUT_BYTES
from tests.unit.edge.test_connection import Ends

CODES = {1000, 1001, 1002, 1003, 1007, 1009, 1011, 4400}

SCRAPS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", b"{", b"[]", b"null", b'{"type":"ping"}', b'[{"type":"ping","nonce":[]}]', b"\xff" * 9]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "tx", "data"]), inner),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
)
FRAMES = st.builds(
    Frame, opcode=st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
    data=SCRAPS, fin=st.booleans(),
)  # fmt: skip


def wire(frame: Frame) -> bytes:
    """The frame as bytes, also where it breaks the rules."""
    data, mask = bytes(frame.data), b"\x01\x02\x03\x04"
    head = bytes([(0x80 if frame.fin else 0) | frame.opcode])
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
    return head + size + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))


async def feed(chunks: list[bytes]) -> None:
    ends = Ends()
    await ends.open()
    for chunk in chunks:
        if not ends.wire.eof:
            ends.edge.data_received(chunk)
        await asyncio.sleep(0)
        assert sum(map(len, ends.wire.writes)) <= 4 * OUT_BYTES
    await ends.exchange()
    closes = [event for event in ends.events if isinstance(event, Frame) and event.opcode is Opcode.CLOSE]
    if closes and closes[0].data:
        code = Close.parse(bytes(closes[0].data)).code
        assert code in CODES or 3000 <= code < 5000
    ends.edge.connection_lost(None)


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=8), st.booleans())
def test_any_frames(frames: list[Frame], whole: bool) -> None:
    data = b"".join(map(wire, frames))
    asyncio.run(feed([data] if whole else [bytes([byte]) for byte in data]))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=10))
def test_any_bytes(chunks: list[bytes]) -> None:
    asyncio.run(feed(chunks))
