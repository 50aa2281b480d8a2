"""Both codecs of the WebSocket protocol, written from its public page alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

Message = dict[str, Any]


class Unreadable(Exception):
    """What an edge sent isn't what the page says that it sends."""


def to_json(value: Any) -> Any:
    """`value` as JSON can say it: bytes as `{"$bytes": ...}`, an object with a single `$` key with one `$` more."""
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        escape = "$" if len(value) == 1 and next(iter(value)).startswith("$") else ""
        return {escape + key: to_json(item) for key, item in value.items()}
    return value


def from_json(value: Any) -> Any:
    """What `to_json` made, undone."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, item),) = value.items()
        if key == "$bytes":
            return base64.b64decode(item, validate=True)
        if key.startswith("$"):
            if not key.startswith("$$"):
                raise Unreadable(f"an unknown escape: {key!r}")
            return {key[1:]: from_json(item)}
    return {key: from_json(item) for key, item in value.items()}


def _no_constant(name: str) -> Any:
    raise Unreadable(f"no JSON: {name}")


def _dump_json(messages: Any) -> str:
    return json.dumps(to_json(messages), allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def _load_json(frame: str | bytes) -> Any:
    if not isinstance(frame, str):
        raise Unreadable("this codec's frames are text")
    return from_json(json.loads(frame, parse_constant=_no_constant))


def _load_msgpack(frame: str | bytes) -> Any:
    if not isinstance(frame, bytes):
        raise Unreadable("this codec's frames are binary")
    return msgpack.unpackb(frame, raw=False, strict_map_key=True)


@dataclass(frozen=True, slots=True)
class Codec:
    """A subprotocol: `dump` makes a frame of a message or a list of messages, `load` undoes it."""

    subprotocol: str
    dump: Callable[[Any], str | bytes]
    _load: Callable[[str | bytes], Any]

    def load(self, frame: str | bytes) -> list[Message]:
        """The messages of a frame, which holds one or an array of them."""
        read = self._load(frame)
        messages = read if isinstance(read, list) else [read]
        if not all(isinstance(message, dict) and isinstance(message.get("type"), str) for message in messages):
            raise Unreadable(f"no messages: {read!r}")
        return messages


JSON = Codec("orbit.v1.json", _dump_json, _load_json)
MSGPACK = Codec("orbit.v1.msgpack", lambda value: bytes(msgpack.packb(value, use_bin_type=True)), _load_msgpack)
CODECS = {"json": JSON, "msgpack": MSGPACK}
