"""The codecs, by the names of their subprotocols."""

from __future__ import annotations

from orbit.protocol.codec import Codec
from orbit.protocol.json_codec import JSON
from orbit.protocol.msgpack_codec import MSGPACK

CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
"""Every codec, the one that an edge prefers first."""

__all__ = ["CODECS", "JSON", "MSGPACK", "Codec"]
