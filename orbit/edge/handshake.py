"""Whether a WebSocket handshake is let in; a refusal is an HTTP answer in the documented form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from orbit.edge.access import Rights
from orbit.errors import BadRequest, NotFound, RequestError, Unauthorized, Unavailable
from orbit.protocol.cursors import NEW_ONLY, parse_cursor
from orbit.protocol.ids import is_name

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

PATH = "/v1/ws"
PLAIN = "/v1/transactions/{id}/ws"
_PLAIN = re.compile(r"/v1/transactions/([A-Za-z0-9_-]{16,64})/ws")

STATUSES = {
    "bad_request": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404, "conflict": 409, "ended": 409,
    "state_error": 409, "out_of_order": 409, "replaced": 409, "gone": 410, "too_large": 413, "rate_limited": 429,
    "overloaded": 503, "unavailable": 503,
}  # fmt: skip
"""The HTTP status of each code; what isn't here is 500."""


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """What a handshake in plain mode asks for: a transaction, from where on, in whose place."""

    tx: str
    after: str = "0"
    session: str | None = None


def judge(edge: Edge, request: Request) -> PlainRequest | None:
    """Let `request` in, as far as it is for the edge to say; what it asks for where that is plain mode.

    Raises:
        NotFound, Unavailable, Overloaded, BadRequest, Forbidden: It isn't let in.
    """
    url = urlsplit(request.path)
    plain = _PLAIN.fullmatch(url.path)
    if plain is None and url.path != PATH:
        raise NotFound("no such path")
    if edge.draining:
        raise Unavailable("this edge is leaving", retry_after_ms=1000)
    edge.let_in()
    origins, hosts = request.headers.get_all("Origin"), request.headers.get_all("Host")
    if len(origins) > 1 or len(hosts) != 1:
        raise BadRequest("one Host, and at most one Origin")
    edge.origins.demand(origins[0] if origins else None, hosts[0])
    return None if plain is None else _plain_request(plain[1], dict(parse_qsl(url.query, keep_blank_values=True)))


def _plain_request(tx: str, query: dict[str, str]) -> PlainRequest:
    after, session = query.get("after", "0"), query.get("session")
    if after != NEW_ONLY and parse_cursor(after) is None:
        raise BadRequest("after must be a cursor, 0 or $")
    if session is not None and not is_name(session):
        raise BadRequest("session must be 16 to 64 characters of A-Za-z0-9_-")
    return PlainRequest(tx, after, session)


def rights_of(edge: Edge, request: Request) -> Rights | None:
    """What the token of a handshake allows: the default of its attaches. None: it brings none. In plain mode, where no
    attach can bring one, it is needed, and may stand in `?token=`.

    Raises:
        Unauthorized: It brings one that isn't valid, or two.
    """
    said = request.headers.get_all("Authorization")
    if len(said) > 1 and edge.access.in_force:
        raise Unauthorized("one Authorization header at most")
    header, url = said[0] if said else None, urlsplit(request.path)
    if url.path == PATH:
        return edge.access.of_handshake(header)
    return edge.access.of_header(header, dict(parse_qsl(url.query)).get("token"))


def challenge(error: RequestError) -> dict[str, str]:
    """The header that goes with 401 (RFC 6750, 3)."""
    return {"WWW-Authenticate": "Bearer"} if error.code == Unauthorized.code else {}


def error_body(error: RequestError) -> bytes:
    """An error as HTTP answers tell it."""
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.retry_after_ms is not None:
        body["retry_after_ms"] = error.retry_after_ms
    if (last_mid := getattr(error, "last_mid", None)) is not None:
        body["last_mid"] = last_mid
    return json.dumps({"error": body}, ensure_ascii=False).encode()


def retry_after(error: RequestError) -> dict[str, str]:
    """The header that goes with `retry_after_ms`."""
    return {} if error.retry_after_ms is None else {"Retry-After": str(-(-error.retry_after_ms // 1000))}


def refusal(ws: ServerProtocol, error: RequestError, response: Response | None = None) -> Response:
    """The answer to a handshake that isn't let in. `response`: the WebSocket layer's own refusal, put in our form."""
    if response is None:
        response = ws.reject(HTTPStatus(STATUSES[error.code]), error.message)
    else:
        error = BadRequest(error.message.partition(": ")[2] or error.message)
    response.body = error_body(error)
    for name in ("Content-Type", "Content-Length"):
        del response.headers[name]
    response.headers["Content-Type"] = "application/json"
    response.headers["Content-Length"] = str(len(response.body))
    response.headers.update(retry_after(error) | challenge(error))
    return response
