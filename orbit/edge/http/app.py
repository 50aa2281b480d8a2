"""The edge's HTTP application: which path does what."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orbit.edge.edge import Edge
from orbit.edge.handshake import PATH, PLAIN
from orbit.edge.http import answers
from orbit.edge.http.entrance import Cors, admit, check_page, needed
from orbit.edge.http.events import Events
from orbit.edge.http.openapi import Description
from orbit.edge.http.shapes import Info
from orbit.edge.http.states import KnownStates
from orbit.edge.http.transactions import Transactions
from orbit.edge.http.updates import Updates
from orbit.edge.http.verbs import Verbs
from orbit.edge.rates import BURST_S
from orbit.errors import BadRequest, OrbitError, OutcomeUnknown, RequestError
from orbit.protocol.codecs import CODECS

log = logging.getLogger("orbit.edge.http")

Handler = Callable[[Request], Awaitable[Response]]


def make_app(edge: Edge) -> Starlette:
    """The application. It holds nothing; the edge does."""
    states = KnownStates(edge.store)
    transactions, verbs, service = Transactions(edge, states), Verbs(edge), Service(edge, states)
    app = Starlette(
        routes=[
            resource(edge, "/v1/transactions", GET=transactions.list, POST=transactions.start),
            resource(edge, "/v1/transactions/{id}", GET=transactions.show),
            resource(edge, "/v1/transactions/{id}/result", GET=transactions.result),
            resource(edge, "/v1/transactions/{id}/updates", GET=Updates(edge).list),
            resource(edge, "/v1/transactions/{id}/events", GET=Events(edge).follow),
            resource(edge, "/v1/transactions/{id}/messages", POST=verbs.send),
            resource(edge, "/v1/transactions/{id}/cancel", POST=verbs.cancel),
            resource(edge, "/v1/transactions/{id}/retry", POST=verbs.retry),
            resource(edge, "/v1/states", GET=states.list),
            resource(edge, "/v1/info", GET=service.info),
            resource(edge, "/v1/openapi.json", GET=Description(_version()).show),
            resource(edge, PATH, GET=service.not_upgraded),
            resource(edge, PLAIN, GET=service.not_upgraded),
            resource(edge, "/livez", GET=service.alive),
            resource(edge, "/readyz", GET=service.ready),
            resource(edge, "/metrics", GET=service.metrics),
        ],
        middleware=[Middleware(Cors, origins=edge.origins)],
        exception_handlers={
            RequestError: answers.on_request_error,
            OutcomeUnknown: answers.on_outcome_unknown,
            HTTPException: answers.on_http_exception,
        },
    )
    app.router.redirect_slashes = False
    return app


def resource(edge: Edge, path: str, **methods: Handler) -> Route:
    """One path and its methods, for those who have the right. HEAD is GET without the body."""
    verbs = {method: needed(path, method) for method in methods}

    async def endpoint(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            check_page(edge, request)
        method = "GET" if request.method == "HEAD" else request.method
        handler = methods[method]
        try:
            request.state.rights = admit(edge, request, path, verbs[method])
            response = await handler(request)
        except (RequestError, OutcomeUnknown) as error:
            edge.metrics.requests.labels(str(answers.status_of(error))).inc()
            raise
        except Exception as error:
            edge.metrics.defects.inc()
            response = await answers.on_defect(request, error)
        edge.metrics.requests.labels(str(response.status_code)).inc()
        return response

    return Route(path, endpoint, methods=list(methods))


class Service:
    """About the edge itself."""

    def __init__(self, edge: Edge, states: KnownStates) -> None:
        self._edge = edge
        self._states = states

    async def alive(self, _request: Request) -> Response:
        return answers.answer({"status": "alive"})

    async def ready(self, _request: Request) -> Response:
        """Ready for traffic: not leaving, and Redis delivers."""
        if self._edge.draining:
            return answers.answer({"status": "draining"}, 503)
        if not self._edge.health.delivers:
            return answers.answer({"status": "Redis doesn't deliver"}, 503)
        return answers.answer({"status": "ready"})

    async def metrics(self, _request: Request) -> Response:
        try:
            await self._states.note_waiting(self._edge.metrics)
        except OrbitError as error:
            log.debug("counting what waits: %s", error)
        return Response(self._edge.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def info(self, _request: Request) -> Response:
        """`GET /v1/info`"""
        limits, timing = self._edge.config.limits, self._edge.config.timing
        told: Info = {
            "version": _version(),
            "protocol": 1,
            "codecs": [codec.name for codec in CODECS.values()],
            "limits": {
                "data_bytes": limits.data_bytes,
                "frame_bytes": limits.frame_bytes,
                "snapshot_bytes": limits.snapshot_bytes,
                "inbox_messages": limits.inbox_messages,
                "attaches": limits.attaches,
                "sessions": limits.sessions,
                "connections": self._edge.admission.connections,
                "attaching": self._edge.admission.capacity.attaching,
                "lag_s": self._edge.admission.capacity.lag_s,
                **dataclasses.asdict(self._edge.config.rates),
                "rate_burst_s": BURST_S,
                "session_retain_s": timing.session_retain_s,
                "grace_s": timing.grace_s,
                "drain_s": timing.drain_s,
                "partitions": self._edge.store.partitions,
            },
        }
        return answers.answer(told)

    async def not_upgraded(self, _request: Request) -> Response:
        raise BadRequest("this path speaks WebSocket: the request must ask for an upgrade")


def _version() -> str:
    try:
        return version("orbit-broker")
    except PackageNotFoundError:
        return "unknown"


