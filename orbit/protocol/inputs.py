"""Inputs: judged against a State's published JSON Schema, without its code.

What only Python's validators know, the worker judges. Patterns are matched by an engine whose time is bounded, and
nothing is ever fetched: a schema comes from a worker, an input from anybody.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import jsonschema_rs

from orbit.config import MIB
from orbit.errors import BadRequest, TooLarge
from orbit.protocol.messages import Value
from orbit.protocol.values import NESTING, check_value

INPUT_BYTES: Final = 8 * MIB
"""An input is a transaction's first snapshot."""
SHOWN_ERRORS: Final = 10
_BACKTRACKS: Final = 100_000


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field. `field` is its path with dots, empty for the input as a whole. No value is told."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


def field_errors(schema: str, fields: Value) -> tuple[FieldError, ...]:
    """What of `fields` (JSON values alone) the schema refuses; at most `SHOWN_ERRORS`."""
    found: list[FieldError] = []
    for error in _validator(schema).iter_errors(fields):
        path = [str(step) for step in error.instance_path]
        kind = error.kind.as_dict()
        if error.kind.name == "required":
            found.append(FieldError(".".join([*path, kind["property"]]), "is missing"))
        else:
            found.append(FieldError(".".join(path), error.message[:200]))
        if len(found) == SHOWN_ERRORS:
            break
    return tuple(found)


def check_input(
    state: str, schema: str, fields: Value, *, limit_bytes: int = INPUT_BYTES, nesting: int = NESTING
) -> bytes:
    """The JSON of an input that its schema takes: a transaction's first snapshot. Bytes become base64.

    Raises:
        BadRequest: naming each field and the reason, without the values.
        TooLarge: naming the size and the limit.
    """
    if not isinstance(fields, dict):
        raise BadRequest(f"the input of {state} must be an object")
    check_value(fields, nesting=nesting, what="input")
    plain = _plain(fields)
    errors = field_errors(schema, plain)
    if errors:
        raise BadRequest(f"the input of {state} doesn't fit: " + "; ".join(map(str, errors)))
    snapshot = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return check_size(snapshot, limit_bytes=limit_bytes)


def check_size(snapshot: bytes, *, limit_bytes: int = INPUT_BYTES) -> bytes:
    """The first snapshot, if it isn't too large."""
    if len(snapshot) > limit_bytes:
        raise TooLarge(f"input: {len(snapshot)} bytes; the limit is {limit_bytes}")
    return snapshot


def body_digest(
    state: str, snapshot: bytes, *, delay_s: float = 0.0, at_ms: int | None = None, queue: str | None = None,
    priority: int = 0,
) -> str:  # fmt: skip
    """What tells a repeated start from another one: it doesn't depend on how the same body was written."""
    body = [state, json.loads(snapshot), float(delay_s), at_ms, queue, priority]
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def unknown_state(name: str, known: list[str]) -> BadRequest:
    """The refusal of a State that no worker ever published."""
    names = ", ".join(sorted(known)[:50]) or "none: no worker has run yet"
    return BadRequest(f"unknown State {name[:64]!r}; known: {names}")


def _plain(value: Value) -> Any:
    if isinstance(value, bytes | bytearray):
        return urlsafe_b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


@lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema_rs.Validator:
    parsed = json.loads(schema)
    try:  # the engine that pydantic uses itself: linear in time
        return _compile(parsed, jsonschema_rs.RegexOptions())
    except ValueError:  # a pattern that looks around: pydantic took it with Python's engine
        return _compile(parsed, jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS))


def _compile(schema: Any, patterns: Any) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schema, mask="the value", offline=True, pattern_options=patterns)
