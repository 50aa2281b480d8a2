"""`GET /v1/openapi.json`: the HTTP interface, described from the types that it is made of (OpenAPI 3.1)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from orbit.edge.http import shapes

ONE: Final = "/v1/transactions/{id}"
REFS: Final = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, or (`header`) a header."""

    name: str
    schema: dict[str, Any]
    about: str
    header: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One request.

    Attributes:
        answers: Each status that isn't an error, with its type. A text is a media type; None: no body.
        errors: The statuses of its errors, beside those that every request may get.
        body: The type of its body; `body_required`: there has to be one.
    """

    about: str
    answers: dict[int, Any]
    errors: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_required: bool = True


def _text(about: str, name: str, **schema: Any) -> Parameter:
    return Parameter(name, {"type": "string", **schema}, about)


AFTER = _text("A cursor; `0`: from the start; `$`: only what is new.", "after")
SESSION = _text("The client's session.", "session", pattern="^[A-Za-z0-9_-]{16,64}$")
LIMIT = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "At most so many.")
KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "Makes asking again safe.",
    header=True,
)
LAST_ID = Parameter("Last-Event-ID", {"type": "string", "pattern": "^[0-9-]+$"}, "Goes before `after`.", header=True)
TOKEN = _text("A token, where no header can be sent.", "token")

WRITES: Final = (400, 403, 413, 429)

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("/v1/transactions", "POST"): Operation(
        "Start a transaction",
        {201: shapes.StartedTransaction, 200: shapes.StartedTransaction},
        (*WRITES, 409),
        (KEY,),
        shapes.Start,
    ),
    ("/v1/transactions", "GET"): Operation(
        "List transactions, newest first",
        {200: shapes.TransactionList},
        (400,),
        (
            _text("Of this State alone.", "state"),
            _text("Of this status alone.", "status", enum=list(shapes.STATUSES)),
            LIMIT,
            _text("The `next` of the answer before.", "page"),
        ),
    ),
    (ONE, "GET"): Operation("Show a transaction", {200: shapes.ShownTransaction}, (404,)),
    (f"{ONE}/updates", "GET"): Operation(
        "Read updates", {200: shapes.UpdateList}, (400, 404), (AFTER, LIMIT, SESSION)
    ),
    (f"{ONE}/events", "GET"): Operation(
        "Follow by server-sent events; 204: the end was seen",
        {200: "text/event-stream", 204: None},
        (400, 404),
        (AFTER, SESSION, TOKEN, LAST_ID),
    ),
    (f"{ONE}/ws", "GET"): Operation(
        "Follow and send over a WebSocket, in plain mode",
        {101: None},
        (400, 404),
        (AFTER, SESSION, TOKEN),
    ),
    (f"{ONE}/result", "GET"): Operation(
        "The outcome; 202: there is none yet",
        {200: shapes.Outcome, 202: shapes.StatusOnly},
        (400, 404),
        (Parameter("wait_s", {"type": "number", "minimum": 0, "maximum": 300}, "Wait so long for it, in seconds."),),
    ),
    (f"{ONE}/messages", "POST"): Operation(
        "Send the State a message",
        {202: shapes.StoredMessage},
        (*WRITES, 404, 409),
        (KEY,),
        shapes.Message,
    ),
    (f"{ONE}/cancel", "POST"): Operation(
        "Cancel a transaction",
        {202: shapes.StatusOnly},
        (*WRITES, 404, 409),
        (),
        shapes.Cancellation,
        body_required=False,
    ),
    (f"{ONE}/retry", "POST"): Operation(
        "Retry a failed transaction from its last snapshot",
        {202: shapes.StatusOnly},
        (*WRITES, 404, 409),
        (KEY,),
        shapes.Nothing,
        body_required=False,
    ),
    ("/v1/states", "GET"): Operation("What workers run", {200: shapes.StateList}),
    ("/v1/info", "GET"): Operation("About this edge", {200: shapes.Info}),
    ("/v1/openapi.json", "GET"): Operation("This description", {200: dict[str, Any]}),
    ("/v1/ws", "GET"): Operation("Follow and send over a WebSocket", {101: None}, (400, 404)),
    ("/livez", "GET"): Operation("Whether the process is up", {200: shapes.Health}),
    ("/readyz", "GET"): Operation("Whether it is ready for traffic", {200: shapes.Health, 503: shapes.Health}),
    ("/metrics", "GET"): Operation("For Prometheus", {200: "text/plain"}),
}
"""Every request; a route that isn't here, or the other way round, fails a test."""

ALWAYS: Final = (401, 403, 500, 503)
"""The errors that every request below `/v1/transactions` and `/v1/states` may get."""


def describe(version: str) -> dict[str, Any]:
    """The description."""
    types = {kind for one in OPERATIONS.values() for kind in (*one.answers.values(), one.body) if _is_shape(kind)}
    adapters = [(kind, "validation", TypeAdapter(kind)) for kind in sorted({*types, shapes.Error}, key=_name)]
    references, shared = TypeAdapter.json_schemas(adapters, ref_template=REFS)  # type: ignore[arg-type]
    known = {kind: schema for (kind, _), schema in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Orbit", "version": version},
        "paths": paths,
        "components": {
            "schemas": shared["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{}, {"bearer": []}],
    }


def _is_shape(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, str)


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


def _operation(path: str, operation: Operation, known: dict[Any, Any]) -> dict[str, Any]:
    guarded = path.startswith(("/v1/transactions", "/v1/states"))
    errors = sorted({*operation.errors, *(ALWAYS if guarded else ())})
    answers = {str(status): _answer(status, kind, known) for status, kind in operation.answers.items()}
    described: dict[str, Any] = {
        "summary": operation.about,
        "parameters": [*_path_parameters(path), *map(_parameter, operation.parameters)],
        "responses": answers | {str(status): _answer(status, shapes.Error, known) for status in errors},
    }
    if operation.body is not None:
        content = {"application/json": {"schema": known[operation.body]}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _answer(status: int, kind: Any, known: dict[Any, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(kind, str):
        said["content"] = {kind: {"schema": {"type": "string"}}}
    elif kind is not None:
        said["content"] = {"application/json": {"schema": known[kind]}}
    if status in (429, 503):
        said["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return said


def _path_parameters(path: str) -> list[dict[str, Any]]:
    if "{id}" not in path:
        return []
    schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,64}$"}
    return [{"name": "id", "in": "path", "required": True, "schema": schema}]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    where = "header" if parameter.header else "query"
    return {"name": parameter.name, "in": where, "schema": parameter.schema, "description": parameter.about}


class Description:
    """Serves it; made at the first request."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._text: bytes | None = None

    async def show(self, _request: Request) -> Response:
        if self._text is None:
            self._text = json.dumps(describe(self._version), ensure_ascii=False).encode()
        return Response(self._text, media_type="application/json")
