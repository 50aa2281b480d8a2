"""Messages to a transaction, its cancelling and its retry."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response

from orbit.edge.dialogue import REASON_CHARACTERS
from orbit.edge.edge import Edge
from orbit.edge.http import answers, shapes
from orbit.edge.http.asking import field, idempotency_key, read_object, transaction_id
from orbit.edge.http.entrance import address_of, rights_of
from orbit.edge.hub import RETRY_AFTER_MS
from orbit.errors import BadRequest, Conflict, Ended, Forbidden, NotFound, OutOfOrder, Overloaded
from orbit.protocol.ids import Session, TxId, is_name
from orbit.protocol.values import pack_checked
from orbit.store import types as t


class Verbs:
    """What is written below `/v1/transactions/{id}`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def send(self, request: Request) -> Response:
        tx = transaction_id(request)
        body = await read_object(request, self._edge.config.limits.frame_bytes)
        if "data" not in body:
            raise BadRequest("data is missing")
        session, mid = field(body, "session", str, None), field(body, "mid", int, None)
        data = pack_checked(body["data"], limit_bytes=self._edge.config.limits.data_bytes)
        subject = rights_of(request).sub
        self._edge.rates.message(None, subject, address_of(self._edge, request))
        new = self._numbered(tx, data, session, mid, subject)
        if new is None:
            new = t.NewMessage(data, key=_scoped(idempotency_key(request), subject), subject=subject)
        stored = _stored(await self._edge.store.append(tx, new))
        return answers.answer(shapes.StoredMessage(duplicate=stored.duplicate), 202)

    def _numbered(
        self, tx: TxId, data: bytes, session: str | None, mid: int | None, subject: str | None
    ) -> t.NewMessage | None:
        if session is None and mid is None:
            return None
        if not is_name(session):
            raise BadRequest("session must be 16 to 64 characters of A-Za-z0-9_-, and goes with mid")
        if mid is None or mid < 1:
            raise BadRequest("mid must be a positive integer, and goes with session")
        public = self._edge.store.public_name(tx, Session(str(session)))
        return t.NewMessage(data, session=public, mid=mid, subject=subject)

    async def cancel(self, request: Request) -> Response:
        tx = transaction_id(request)
        body = await read_object(request, self._edge.config.limits.frame_bytes, required=False)
        reason = field(body, "reason", str, "")
        if len(reason) > REASON_CHARACTERS:
            raise BadRequest(f"reason: {len(reason)} characters; the limit is {REASON_CHARACTERS}")
        answer = await self._edge.cancel(tx, reason)
        return answers.answer({"status": answer.status}, 202)

    async def retry(self, request: Request) -> Response:
        """A failed one again. An `Idempotency-Key` names the retry: with it, asking again is safe."""
        tx = transaction_id(request)
        await read_object(request, self._edge.config.limits.frame_bytes, required=False)
        answer = await self._edge.store.retry(tx, idempotency_key(request) or secrets.token_hex(16))
        match answer:
            case t.Retried(status):
                return answers.answer({"status": status}, 202)
            case t.NotFailed(status):
                raise Conflict(f"the transaction is {status}, not failed")
            case t.Missing():
                raise NotFound("no such transaction")


def _scoped(key: str | None, subject: str | None) -> str | None:
    """A message's key as the store keeps it: one subject's is never another's."""
    return None if key is None else f"{len(subject or '')}:{subject or ''}:{key}"


def _stored(
    answer: t.Stored | t.WrongMid | t.InboxFull | t.NotPlace | t.Missing | t.Over | t.Barred,
) -> t.Stored:
    match answer:
        case t.Stored():
            return answer
        case t.WrongMid(last_mid):
            raise OutOfOrder(f"the next mid is {last_mid + 1}", last_mid=last_mid)
        case t.InboxFull():
            raise Overloaded("the inbox is full", retry_after_ms=RETRY_AFTER_MS)
        case t.Over(status):
            raise Ended(f"the transaction is over: {status}")
        case t.Barred(text):
            raise Forbidden(text)
        case t.Missing():
            raise NotFound("no such transaction")
        case t.NotPlace():
            raise Forbidden("the session belongs to another subject")
