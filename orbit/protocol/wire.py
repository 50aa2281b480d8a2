"""Messages as plain objects: the form that both codecs share.

A raw message is what a codec read from a frame: a dict whose fields are still to be judged. `Malformed` is a message
that was read but means nothing; `ProtocolError` is a frame that can't be read at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Final, TypeVar, get_args

from orbit.errors import BadRequest, ProtocolError
from orbit.protocol.cursors import NEW_ONLY, parse_cursor
from orbit.protocol.ids import is_name
from orbit.protocol.messages import (
    ABSENT,
    Attach,
    ClientMessage,
    EdgeMessage,
    Malformed,
    Ping,
    Send,
    Value,
)
from orbit.protocol.values import INT_MAX, is_text

MAX_MESSAGES: Final = 10_000
"""How many messages one frame may hold."""

ReadValue = Callable[[object], Value]
"""Makes a value of a raw one; raises BadRequest where it is none."""

_Message = TypeVar("_Message")
_CLIENT = {kind.type: kind for kind in get_args(ClientMessage)}
_EDGE = {kind.type: kind for kind in get_args(EdgeMessage)}


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value <= INT_MAX


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(is_text(key) and is_text(text) for key, text in value.items())


_JUDGES: dict[str, tuple[Callable[[object], bool], str]] = {
    "str": (is_text, "text"),
    "int": (_count, "an integer"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "dict[str, str]": (_texts, "an object of texts"),
}


class _Slot:
    """One field of a message: its name, whether it may be missing, and what it must be."""

    __slots__ = ("default", "is_value", "judge", "kind", "name", "optional")

    def __init__(self, field: Field[Any]) -> None:
        annotation = str(field.type).removesuffix(" | None")
        self.name = field.name
        self.optional = field.default is not MISSING
        self.default = field.default
        self.is_value = annotation.startswith("Value")
        self.judge, self.kind = _JUDGES["str" if self.is_value else annotation]

    def read(self, raw: Mapping[str, object], read_value: ReadValue) -> Any:
        value = raw.get(self.name, ABSENT)
        if value is ABSENT or (value is None and self.optional and not self.is_value):
            if self.optional:
                return self.default
            raise BadRequest(f"{self.name} is missing")
        if self.is_value:
            return read_value(value)
        if not self.judge(value):
            raise BadRequest(f"{self.name} must be {self.kind}")
        return value


_SLOTS: dict[type, tuple[_Slot, ...]] = {
    kind: tuple(_Slot(field) for field in fields(kind)) for kind in (*_CLIENT.values(), *_EDGE.values())
}


def write(message: ClientMessage | EdgeMessage, write_value: Callable[[Value], object] | None = None) -> dict[str, Any]:
    """A message as a plain object, without the fields that are absent."""
    raw: dict[str, Any] = {"type": message.type}
    for slot in _SLOTS[type(message)]:
        value = getattr(message, slot.name)
        if value is ABSENT or (value is None and slot.default is None):
            continue
        raw[slot.name] = write_value(value) if write_value and slot.is_value else value
    return raw


def split(frame: object) -> list[object]:
    """The raw messages of one read frame: an array's members, or the one that it is."""
    if not isinstance(frame, list):
        return [frame]
    if len(frame) > MAX_MESSAGES:
        raise ProtocolError(f"{len(frame)} messages in one frame; the limit is {MAX_MESSAGES}")
    return frame


def read_client(raw: object, read_value: ReadValue) -> ClientMessage | Malformed:
    """What a client said. Never raises."""
    if not isinstance(raw, dict):
        return Malformed(None, None, None, "a message is an object with a type")
    op = raw.get("type")
    kind = _CLIENT.get(op) if isinstance(op, str) else None
    if kind is None:
        return _unknown(op)
    try:
        message: ClientMessage = _build(kind, raw, read_value)
        return _judge(message) or message
    except BadRequest as refusal:
        return _malformed(kind.type, raw, refusal.message)


def read_edge(raw: object, read_value: ReadValue) -> EdgeMessage | None:
    """What an edge said; None for a type that this version doesn't know.

    Raises:
        ProtocolError: It is no message.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        raise ProtocolError("a message is an object with a type")
    kind = _EDGE.get(raw["type"])
    if kind is None:
        return None
    try:
        message: EdgeMessage = _build(kind, raw, read_value)
    except BadRequest as refusal:
        raise ProtocolError(f"{kind.type}: {refusal.message}") from None
    return message


def _build(kind: type[_Message], raw: Mapping[str, object], read_value: ReadValue) -> _Message:
    return kind(*[slot.read(raw, read_value) for slot in _SLOTS[kind]])


def _judge(message: ClientMessage) -> Malformed | None:
    """What the types of the fields alone don't tell."""
    if isinstance(message, Ping):
        return None
    if isinstance(message, Send):
        if message.mid == 0:
            return Malformed(message.type, _echo(message.tx), None, "mid must be a positive integer")
        if len(message.tx) > 64:
            return Malformed(message.type, None, message.mid, "tx is no transaction's id")
        return None
    if not is_name(message.tx):
        return Malformed(message.type, _echo(message.tx), None, "no such transaction", "not_found")
    if isinstance(message, Attach):
        if message.after != NEW_ONLY and parse_cursor(message.after) is None:
            return Malformed(message.type, message.tx, None, "after is no cursor")
        if message.session is not None and not is_name(message.session):
            return Malformed(message.type, message.tx, None, "session must be 16 to 64 characters of A-Za-z0-9_-")
    return None


def _malformed(op: str, raw: Mapping[str, object], reason: str) -> Malformed:
    mid = raw.get("mid") if op == Send.type else None
    numbered = isinstance(mid, int) and _count(mid) and mid > 0
    return Malformed(op, _echo(raw.get("tx")), mid if isinstance(mid, int) and numbered else None, reason)


def _unknown(op: object) -> Malformed:
    """An `error` with `tx` and without `op` would say that it is detached: so no `tx` here."""
    if op is None:
        return Malformed(None, None, None, "type is missing")
    return Malformed(_echo(op), None, None, "unknown type")


def _echo(text: object) -> str | None:
    """What may be said back to the client: a short text."""
    return text if isinstance(text, str) and len(text) <= 64 and is_text(text) else None
