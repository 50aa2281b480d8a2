"""HTTP answers: JSON, and errors in the documented form."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orbit.edge.handshake import STATUSES, challenge, error_body, retry_after
from orbit.edge.http import shapes
from orbit.edge.hub import RETRY_AFTER_MS
from orbit.errors import Internal, OutcomeUnknown, RequestError, Unavailable
from orbit.protocol.json_codec import transcode
from orbit.store.types import SessionRow, Transaction

log = logging.getLogger("orbit.edge.http")


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`body` as JSON; values in it have been through `plain_value`."""
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(content, status, headers, media_type="application/json")


def status_of(error: RequestError | OutcomeUnknown) -> int:
    """The status of its answer."""
    return STATUSES.get(Unavailable.code if isinstance(error, OutcomeUnknown) else error.code, 500)


def refuse(error: RequestError) -> Response:
    status = status_of(error)
    headers = retry_after(error) if status in (429, 503) else {}
    headers |= challenge(error)
    return Response(error_body(error), status, headers, media_type="application/json")


async def on_request_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return refuse(error)


async def on_outcome_unknown(_request: Request, _error: Exception) -> Response:
    return refuse(Unavailable("Redis didn't answer: it may be done or not; ask again", retry_after_ms=RETRY_AFTER_MS))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an unknown path, a method."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    code, text = {404: ("not_found", "no such path"), 405: ("bad_request", "no such method here")}.get(
        error.status_code, ("bad_request", error.detail)
    )
    body = {"error": {"code": code, "message": text}}
    return answer(body, error.status_code, headers)


async def on_defect(_request: Request, error: Exception) -> Response:
    log.error("a defect", exc_info=error)
    return refuse(Internal("a defect of Orbit; its log has the details"))


# ---- what answers are made of


def plain_value(packed: bytes) -> Any:
    """A packed value as its JSON form."""
    return json.loads(transcode(packed))


def time_text(ms: int | None) -> str | None:
    """RFC 3339, in UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def outcome(tx: Transaction) -> shapes.Outcome:
    """How a transaction ended: the fields that are there."""
    told: shapes.Outcome = {"status": tx.status}
    if tx.result is not None:
        told["result"] = plain_value(tx.result)
    if tx.error is not None:
        told["error"] = {"type": tx.error.type, "message": tx.error.message}
    return told


def transaction(tx: Transaction, waiting_for: str | None = None) -> shapes.Transaction:
    """A transaction as listings show it."""
    told: shapes.Transaction = {
        "id": tx.tx,
        "state": tx.state,
        "version": tx.version,
        "queue": tx.queue,
        "status": tx.status,
        "created_at": time_text(tx.created_ms),
        "started_at": time_text(tx.started_ms),
        "ended_at": time_text(tx.ended_ms),
        "cursor": str(tx.head),
        "commit": tx.number,
        "epoch": tx.epoch,
        "attempts": tx.attempts,
    }
    if waiting_for is not None:
        told["waiting_for"] = waiting_for
    ended = outcome(tx)
    if "result" in ended:
        told["result"] = ended["result"]
    if "error" in ended:
        told["error"] = ended["error"]
    return told


def session(row: SessionRow) -> shapes.Session:
    return {"session": row.session, "subject": row.subject, "last_mid": row.last_mid}
