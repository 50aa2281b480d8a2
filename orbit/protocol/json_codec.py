"""JSON, on the WebSocket and over HTTP: bytes are `{"$bytes": "<base64>"}`.

An object that really has a single key beginning with `$` is written with one `$` more in front of that key.
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from typing import Any, ClassVar

from orbit.errors import BadRequest, ProtocolError
from orbit.protocol.codec import Codec
from orbit.protocol.messages import Value
from orbit.protocol.values import INT_MAX, NESTING, check_value, unpack
from orbit.protocol.wire import ReadValue

BYTES_KEY = "$bytes"


def json_dumps(value: Value) -> bytes:
    """A checked value as JSON."""
    return _dump(_escape(value))


def json_loads(text: str | bytes, *, what: str = "body") -> Value:
    """The value of a JSON text from outside.

    Raises:
        BadRequest: It is no JSON, or no value that Orbit takes. Nothing else is ever raised.
    """
    try:
        raw = _parse(_text(text))
    except ProtocolError as error:
        raise BadRequest(f"{what}: {error}") from None
    return _read_escaped(raw, what)


def transcode(packed: bytes) -> bytes:
    """A packed value, that Orbit wrote, as JSON."""
    value = unpack(packed)
    return _dump(_escape(value) if b"$" in packed else value)


class JsonCodec(Codec):
    """`orbit.v1.json`: text frames."""

    name: ClassVar[str] = "json"
    subprotocol: ClassVar[str] = "orbit.v1.json"
    text: ClassVar[bool] = True

    def together(self, payloads: Sequence[bytes]) -> bytes:
        return b"[%b]" % b",".join(payloads)

    def _parse(self, frame: str | bytes) -> tuple[object, ReadValue]:
        text = _text(frame)
        return _parse(text), _read_escaped if "$" in text or "\\u0024" in text else _read_plain

    def _write_value(self, value: Value) -> object:
        return _escape(value)

    def _write(self, raw: dict[str, Any]) -> bytes:
        return _dump(raw)

    def _splice(self, raw: dict[str, Any], name: str, packed: bytes) -> bytes:
        return b'%b,"%b":%b}' % (_dump(raw)[:-1], name.encode(), transcode(packed))


def _text(frame: str | bytes) -> str:
    try:
        return frame.decode() if isinstance(frame, bytes) else frame
    except UnicodeDecodeError:
        raise ProtocolError("not UTF-8") from None


def _parse(text: str) -> object:
    try:
        return _decode(text)
    except json.JSONDecodeError as error:
        raise ProtocolError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ProtocolError("nested too deep") from None


def _decode(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of more digits than Python converts: read it as one that no value may hold
        return _LONG_DECODER.decode(text)


def _long_int(digits: str) -> int:
    return int(digits) if len(digits) <= 20 else INT_MAX + 1


_DECODER = json.JSONDecoder()
_LONG_DECODER = json.JSONDecoder(parse_int=_long_int)


def _as_object(value: object) -> dict[str, str]:
    if isinstance(value, bytes | bytearray):
        return {BYTES_KEY: b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__} is neither a JSON value nor bytes")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_object)


def _dump(raw: object) -> bytes:
    return _ENCODER.encode(raw).encode()


def _escape(value: Value) -> Value:
    """The same with every single key that begins with `$` given one more. Bytes are left to the encoder."""
    if isinstance(value, dict):
        if len(value) == 1:
            [(key, member)] = value.items()
            return {"$" + key if key.startswith("$") else key: _escape(member)}
        return {key: _escape(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(member) for member in value]
    return value


def _read_plain(raw: object) -> Value:
    check_value(raw)
    return raw


def _read_escaped(raw: object, what: str = "data") -> Value:
    value = _unescape(raw, NESTING + 1, what)
    check_value(value, what=what)
    return value


def _unescape(raw: Any, room: int, what: str) -> Value:
    kind = type(raw)
    if kind is list:
        if not room:
            raise BadRequest(f"{what}: nested too deep")
        return [_unescape(member, room - 1, what) for member in raw]
    if kind is dict:
        if not room:
            raise BadRequest(f"{what}: nested too deep")
        if len(raw) == 1:
            [(key, member)] = raw.items()
            if key.startswith("$"):
                return _unescape_single(key, member, room, what)
        return {key: _unescape(member, room - 1, what) for key, member in raw.items()}
    return raw


def _unescape_single(key: str, member: object, room: int, what: str) -> Value:
    if key.startswith("$$"):
        return {key[1:]: _unescape(member, room - 1, what)}
    if key != BYTES_KEY:
        raise BadRequest(f"{what}: an object whose single key begins with $ is written with one $ more in front of it")
    if not isinstance(member, str):
        raise BadRequest(f"{what}: {BYTES_KEY} must be base64 text")
    try:
        return a2b_base64(member, strict_mode=True)
    except (Base64Error, ValueError):
        raise BadRequest(f"{what}: {BYTES_KEY} must be base64 text") from None


JSON = JsonCodec()
