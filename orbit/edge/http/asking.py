"""What a request says, read with care: bodies, ids, parameters."""

from __future__ import annotations

import asyncio
from datetime import datetime
from math import isfinite
from typing import Any

from starlette.requests import ClientDisconnect, Request

from orbit.errors import BadRequest, NotFound, TooLarge
from orbit.protocol.cursors import NEW_ONLY, parse_cursor
from orbit.protocol.ids import TxId, is_name
from orbit.protocol.json_codec import json_loads

KEY_CHARACTERS = 255
BODY_S = 60.0
"""For so long may a body take to come."""
_UNSAID = object()


async def read_object(request: Request, limit_bytes: int, *, required: bool = True) -> dict[str, Any]:
    """The JSON object of the body. `required`: else no body at all is an empty object.

    Raises:
        TooLarge, BadRequest: It is none.
    """
    text = await _read(request, limit_bytes)
    if not text and not required:
        return {}
    body = json_loads(text)
    if not isinstance(body, dict):
        raise BadRequest("body: must be an object")
    return body


async def _read(request: Request, limit_bytes: int) -> bytes:
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:18]) > limit_bytes:
        raise TooLarge(f"body: {said[:18]} bytes; the limit is {limit_bytes}")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise TooLarge(f"body: over the limit of {limit_bytes} bytes")
    except TimeoutError:
        raise BadRequest(f"body: it didn't come in {BODY_S:.0f} s") from None
    except ClientDisconnect:
        raise BadRequest("body: the client left before its end") from None
    return bytes(body)


def field(body: dict[str, Any], name: str, kind: type, default: Any = _UNSAID) -> Any:
    """A field of a body. With a default it may be missing, or null.

    Raises:
        BadRequest: It is missing, or of another kind.
    """
    value = body.get(name)
    if value is None:
        if default is _UNSAID:
            raise BadRequest(f"{name} is missing")
        return default
    number = kind in (int, float)
    fits = isinstance(value, (int, float) if kind is float else kind) and not (number and isinstance(value, bool))
    if not fits or (kind is float and not isfinite(value)):
        raise BadRequest(f"{name} must be {_KINDS[kind]}")
    return value


_KINDS = {str: "text", int: "an integer", float: "a number", dict: "an object"}


def time_in(body: dict[str, Any], name: str) -> datetime | None:
    """A field of a body that is a time as RFC 3339 has it, or missing.

    Raises:
        BadRequest: It is another thing, or has no time zone.
    """
    text = field(body, name, str, None)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadRequest(f"{name} must be a time with a time zone, as in 2031-02-03T04:05:06Z")
    return time


def transaction_id(request: Request) -> TxId:
    """The id in the path.

    Raises:
        NotFound: It can be none.
    """
    text = request.path_params["id"]
    if not is_name(text):
        raise NotFound("no such transaction")
    return TxId(text)


def number_in(request: Request, name: str, kind: type[int] | type[float], default: float, most: float) -> Any:
    """A query parameter from 0 to `most`; more than that is taken as `most`.

    Raises:
        BadRequest: It is no such number.
    """
    text = request.query_params.get(name)
    if text is None:
        return kind(default)
    try:
        value = kind(text) if text.isascii() and len(text) < 20 else -1
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise BadRequest(f"{name} must be a number, 0 or more")
    return min(value, kind(most))


def cursor_in(request: Request, resumed: str | None = None) -> str:
    """The cursor to go on from: `resumed` (a `Last-Event-ID`), else the query's `after`, else the start.

    Raises:
        BadRequest: It is none.
    """
    after = resumed or request.query_params.get("after", "0")
    if after != NEW_ONLY and parse_cursor(after) is None:
        raise BadRequest("after must be a cursor, 0 or $" if resumed is None else "Last-Event-ID must be a cursor")
    return after


def session_in(request: Request) -> str | None:
    """The query's `session`.

    Raises:
        BadRequest: It can be none.
    """
    session = request.query_params.get("session")
    if session is not None and not is_name(session):
        raise BadRequest("session must be 16 to 64 characters of A-Za-z0-9_-")
    return session


def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key` header.

    Raises:
        BadRequest: It is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= KEY_CHARACTERS:
        raise BadRequest(f"Idempotency-Key: 1 to {KEY_CHARACTERS} characters")
    return key
