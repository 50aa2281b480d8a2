"""Starting transactions, and looking at them."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from orbit.edge.access import Rights
from orbit.edge.access.rights import OF_ONE
from orbit.edge.edge import Edge
from orbit.edge.http import answers, shapes
from orbit.edge.http.asking import field, idempotency_key, number_in, read_object, time_in, transaction_id
from orbit.edge.http.entrance import address_of, rights_of
from orbit.edge.http.states import KnownStates
from orbit.errors import BadRequest, Conflict, NotFound
from orbit.protocol.entries import ENDED
from orbit.protocol.ids import TxId, is_name
from orbit.protocol.inputs import check_input
from orbit.store import types as t
from orbit.store.starts import StartOptions, by_record, draw_id

LISTED, MOST_LISTED = 100, 1000
SESSIONS_SHOWN = 100
MOST_WAIT_S = 300.0


class Transactions:
    """`/v1/transactions` and what is read below it."""

    def __init__(self, edge: Edge, states: KnownStates) -> None:
        self._edge = edge
        self._store = edge.store
        self._states = states

    # ---- start

    async def start(self, request: Request) -> Response:
        body = await read_object(request, self._edge.config.limits.frame_bytes)
        rights = rights_of(request)
        self._edge.admission.work(asyncio.get_running_loop().time())
        new = await self._new(body, idempotency_key(request), rights.sub)
        self._edge.rates.start(rights.sub, address_of(self._edge, request))
        answer = await self._store.start(new)
        match answer:
            case t.Taken():
                raise Conflict("another start has this id or key")
            case t.Started():
                status = 201
            case t.Existed():
                status = 200
                if "id" in body and not rights.may("watch", answer.tx):
                    raise Conflict("another start has this id")
        shown = shapes.StartedTransaction(**await self._shown(answer.tx))  # type: ignore[typeddict-item]
        token = self._token(rights, answer.tx, own=status == 201 or "id" not in body)
        if token is not None:
            shown["token"] = token
        mount = request.scope.get("root_path", "")
        return answers.answer(shown, status, {"Location": f"{mount}/v1/transactions/{answer.tx}"})

    def _token(self, rights: Rights, tx: TxId, *, own: bool) -> str | None:
        """A token for one transaction: all of it, where it is the caller's `own`, else what the caller may anyway."""
        return self._edge.access.sign(rights, tx, OF_ONE if own else tuple(v for v in OF_ONE if rights.may(v, tx)))

    async def _new(self, body: dict[str, Any], key: str | None, sub: str | None) -> t.NewTransaction:
        name, tx = field(body, "state", str), field(body, "id", str, None)
        options = StartOptions(
            field(body, "delay_s", float, 0.0), time_in(body, "at"), field(body, "queue", str, None),
            field(body, "priority", int, 0),
        )  # fmt: skip
        if tx is not None and not is_name(tx):
            raise BadRequest("id must be 16 to 64 characters of A-Za-z0-9_-")
        state = await self._states.newest(name)
        limits = self._edge.config.limits
        fields = check_input(
            name, state.schema, body.get("input", {}), limit_bytes=limits.snapshot_bytes, nesting=limits.nesting
        )
        return by_record(state, fields, self._id(tx, key, sub or ""), options)

    def _id(self, tx: str | None, key: str | None, sub: str) -> TxId:
        if tx is not None:
            return TxId(tx)
        return draw_id() if key is None else self._store.derived_id("start", sub, key)

    # ---- look

    async def show(self, request: Request) -> Response:
        tx = transaction_id(request)
        shown = await self._shown(tx)
        rows, total = await self._store.sessions(tx, SESSIONS_SHOWN)
        told: shapes.ShownTransaction = {
            **shown, "sessions": [answers.session(row) for row in rows], "sessions_total": total
        }  # fmt: skip
        return answers.answer(told)

    async def list(self, request: Request) -> Response:
        asked = request.query_params
        status = asked.get("status")
        if status is not None and status not in shapes.STATUSES:
            raise BadRequest(f"status is one of {', '.join(shapes.STATUSES)}")
        limit = max(number_in(request, "limit", int, LISTED, MOST_LISTED), 1)
        mine = rights_of(request).tx
        if mine is not None:
            return await self._list_of(mine, asked.get("state"), status, limit, asked.get("page"))
        page = await self._store.list(state=asked.get("state"), status=status, limit=limit, page=asked.get("page"))
        listed = [answers.transaction(one, await self._states.missing_for(one)) for one in page.transactions]
        return answers.answer(shapes.TransactionList(transactions=listed, next=page.next))

    async def _list_of(
        self, ids: frozenset[str], state: str | None, status: str | None, limit: int, page: str | None
    ) -> Response:
        """Those that a token names, newest first. A page is a number: how many were listed before it."""
        if page is not None and not (page.isascii() and page.isdecimal() and len(page) < 10):
            raise BadRequest("page is none")
        found = [tx for one in sorted(ids) if is_name(one) and (tx := await self._store.get(TxId(one))) is not None]
        fits = [tx for tx in found if state in (None, tx.state) and status in (None, tx.status)]
        fits.sort(key=lambda tx: (tx.created_ms, tx.tx), reverse=True)
        begin = int(page or 0)
        listed = [answers.transaction(tx, await self._states.missing_for(tx)) for tx in fits[begin : begin + limit]]
        more = str(begin + limit) if begin + limit < len(fits) else None
        return answers.answer(shapes.TransactionList(transactions=listed, next=more))

    async def result(self, request: Request) -> Response:
        tx = transaction_id(request)
        wait_s = number_in(request, "wait_s", float, 0.0, MOST_WAIT_S)
        found = await self._get(tx)
        wait_s = min(wait_s, self._edge.access.left_s(rights_of(request)))
        if wait_s and found.status not in ENDED:
            found = await self._wait(tx, wait_s)
        if found.status not in ENDED:
            return answers.answer({"status": found.status}, 202)
        return answers.answer(answers.outcome(found))

    async def _wait(self, tx: TxId, wait_s: float) -> t.Transaction:
        """The transaction when it has ended, or after `wait_s`: woken by its feed."""
        watch = await self._edge.hub.join(tx)
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    changed = watch.changed
                    found = await self._get(tx)
                    watch.begin(found.head, found.number, found.status)
                    if found.status in ENDED or self._edge.draining:
                        return found
                    await changed.wait()
        except TimeoutError:
            return await self._get(tx)
        finally:
            self._edge.hub.leave(watch)

    async def _get(self, tx: TxId) -> t.Transaction:
        found = await self._store.get(tx)
        if found is None:
            raise NotFound("no such transaction")
        return found

    async def _shown(self, tx: TxId) -> shapes.Transaction:
        found = await self._get(tx)
        return answers.transaction(found, await self._states.missing_for(found))
