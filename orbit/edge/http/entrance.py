"""Who is let in: the right that each request needs, and pages of other origins (CORS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orbit.edge.access import Origins, Rights, Verb
from orbit.edge.access.origins import same_origin
from orbit.errors import Forbidden, Unauthorized
from orbit.protocol.ids import PublicName, TxId

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

ALL: Final = "/v1/transactions"
ONE: Final = "/v1/transactions/{id}"

NEEDED: Final[dict[tuple[str, str], tuple[Verb, ...]]] = {
    (ALL, "POST"): ("start",),
    (ALL, "GET"): ("list",),
    (f"{ONE}/messages", "POST"): ("send",),
    (f"{ONE}/cancel", "POST"): ("cancel",),
    (f"{ONE}/retry", "POST"): ("start",),
    ("/v1/states", "GET"): ("list", "start"),
}
"""The right that a request needs: any of these. What is read below a transaction needs `watch`."""

QUERY_TOKENS: Final = (f"{ONE}/events", f"{ONE}/ws")
"""The paths that take `?token=`: a browser can send no header there."""


def needed(path: str, method: str) -> tuple[Verb, ...]:
    """The rights of which one is needed for `method` on the route `path`; none for what anybody may ask.

    Raises:
        ValueError: A route below `/v1/transactions` that isn't named in `NEEDED`.
    """
    found = NEEDED.get((path, method))
    if found is not None:
        return found
    if not path.startswith((ALL, "/v1/states")):
        return ()
    if method != "GET":
        raise ValueError(f"which right does {method} {path} need?")
    return ("watch",)


def admit(edge: Edge, request: Request, path: str, verbs: tuple[Verb, ...]) -> Rights | None:
    """The rights of a request, which allow one of `verbs` to the transaction in its path.

    Raises:
        Unauthorized, Forbidden: They don't.
    """
    if not verbs:
        return None
    said = request.headers.getlist("authorization")
    if len(said) > 1 and edge.access.in_force:
        raise Unauthorized("one Authorization header at most")
    query = request.query_params.get("token")
    if query is not None and not said and path not in QUERY_TOKENS and edge.access.in_force:
        raise Unauthorized("a token is needed in the Authorization header; ?token= is for events and plain WebSockets")
    rights = edge.access.of_header(said[0] if said else None, query if path in QUERY_TOKENS else None)
    tx = request.path_params.get("id")
    allowed = next((verb for verb in verbs if rights.may(verb, tx)), verbs[0])
    return edge.access.demand(rights, allowed, tx)


def rights_of(request: Request) -> Rights:
    """What the request's token allows."""
    rights = request.state.rights
    assert isinstance(rights, Rights), "a route that needs no right asked for its rights"
    return rights


async def check_session(edge: Edge, request: Request, tx: TxId, session: PublicName) -> None:
    """Refuse a request that reads what is for a session alone, where that is another subject's.

    Raises:
        Forbidden: It is.
    """
    row = await edge.store.session(tx, session)
    if row is not None and row.subject is not None and row.subject != rights_of(request).sub:
        raise Forbidden("the session belongs to another subject")


def address_of(edge: Edge, request: Request) -> str | None:
    """Who is counted for this request."""
    peer = None if request.client is None else request.client.host
    return edge.address_of(peer, request.headers.getlist("x-forwarded-for"))


def check_page(edge: Edge, request: Request) -> None:
    """Refuse what a page that isn't let in makes a browser send.

    Raises:
        Forbidden: It comes from such a page.
    """
    edge.origins.demand(request.headers.get("origin"), request.headers.get("host"))


# ---- CORS (https://fetch.spec.whatwg.org/#http-cors-protocol)

ALLOWED_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
EXPOSED_HEADERS: Final = "Location, Retry-After"
PREFLIGHT_S: Final = 600


class Cors:
    """Around the application: tells a browser which pages may read answers. No credentials: tokens are no cookies."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin, host = headers.get("origin"), headers.get("host")
        if origin is None or same_origin(origin, host) or not self._origins.let_in(origin, host):
            await self._app(scope, receive, send)
            return
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), origin, preflight)
            await send(message)

        await self._app(scope, receive, send_with)


def _add(headers: MutableHeaders, origin: str, preflight: bool) -> None:
    headers["Access-Control-Allow-Origin"] = origin
    headers.add_vary_header("Origin")
    if preflight:
        headers["Access-Control-Allow-Methods"] = headers.get("allow", "GET")
        headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
    else:
        headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
