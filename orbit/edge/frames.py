"""WebSocket frames: an update is encoded once per codec and framed once, whoever it goes to."""

from __future__ import annotations

from collections.abc import Iterator

from orbit.protocol.codecs import Codec
from orbit.protocol.entries import EndEntry, Entry, RefusalEntry, UpdateEntry
from orbit.protocol.messages import EdgeMessage, Rejected
from orbit.protocol.replay import Batch

_TEXT, _BINARY = 0x81, 0x82
"""The first byte of a whole text or binary frame (RFC 6455, section 5.2)."""


def frame(payload: bytes, *, text: bool) -> bytes:
    """`payload` as one unmasked frame."""
    first, size = _TEXT if text else _BINARY, len(payload)
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8), payload)


def payloads(frames: bytes) -> Iterator[tuple[bytes, bool]]:
    """What whole unmasked frames carry, one after the other, and whether as text."""
    at = 0
    while at < len(frames):
        text, size, at = frames[at] == _TEXT, frames[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(frames[at : at + width]), at + width
        yield frames[at : at + size], text
        at += size


def message_frame(message: EdgeMessage, codec: Codec) -> bytes:
    return frame(codec.encode(message), text=codec.text)


def entry_frame(tx: str, entry: Entry, codec: Codec) -> bytes:
    """An entry of a transaction's log, as its followers are told."""
    cursor = str(entry.cursor)
    match entry:
        case UpdateEntry():
            return frame(codec.encode_update(tx, cursor, entry.data), text=codec.text)
        case EndEntry():
            return frame(codec.encode_end(tx, cursor, entry.status, entry.result, entry.error), text=codec.text)
        case RefusalEntry():
            return message_frame(Rejected(tx, entry.mid, entry.code, entry.message, cursor=cursor), codec)


class Rendered:
    """The frames of one batch, each made at its first use."""

    __slots__ = ("_one", "_whole", "batch", "tx")

    def __init__(self, tx: str, batch: Batch) -> None:
        self.tx = tx
        self.batch = batch
        self._whole: dict[str, bytes] = {}
        self._one: dict[tuple[str, int], bytes] = {}

    def frames(self, told: tuple[Entry, ...], codec: Codec) -> bytes:
        """The frames of `told`: some entries of the batch, or all of them."""
        if told is not self.batch.entries:
            return b"".join(self._entry(entry, codec) for entry in told)
        whole = self._whole.get(codec.name)
        if whole is None:
            whole = self._whole[codec.name] = b"".join(entry_frame(self.tx, entry, codec) for entry in told)
        return whole

    def _entry(self, entry: Entry, codec: Codec) -> bytes:
        key = codec.name, entry.cursor.seq
        known = self._one.get(key)
        if known is None:
            known = self._one[key] = entry_frame(self.tx, entry, codec)
        return known
