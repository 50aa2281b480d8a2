"""A page of a transaction's updates, for those who ask now and then."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from orbit.edge.edge import Edge
from orbit.edge.http import answers, shapes
from orbit.edge.http.asking import cursor_in, number_in, session_in, transaction_id
from orbit.edge.http.entrance import check_session
from orbit.errors import NotFound
from orbit.protocol.cursors import NEW_ONLY, Cursor, parse_cursor
from orbit.protocol.entries import LogPage, LogReset, UpdateEntry
from orbit.protocol.ids import PublicName, Session, TxId
from orbit.protocol.replay import Tail
from orbit.store.types import Missing

LISTED, MOST_LISTED = 100, 1000
MOST_PAGES = 20
"""So many pages of the log are read for one answer; whoever asks again goes on from its `cursor`."""


class Updates:
    """`GET /v1/transactions/{id}/updates`"""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._store = edge.store

    async def list(self, request: Request) -> Response:
        tx, session = transaction_id(request), session_in(request)
        limit = max(number_in(request, "limit", int, LISTED, MOST_LISTED), 1)
        after = cursor_in(request)
        found = await self._store.get(tx)
        if found is None:
            raise NotFound("no such transaction")
        public = None if session is None else self._store.public_name(tx, Session(session))
        if public is not None:
            await check_session(self._edge, request, tx, public)
        place = found.head if after == NEW_ONLY else parse_cursor(after)
        assert place is not None  # judged by cursor_in
        return answers.answer(await self._read(tx, place, public, limit))

    async def _read(self, tx: TxId, place: Cursor, session: PublicName | None, limit: int) -> shapes.UpdateList:
        tail = Tail(place, session)
        status = ""
        told: list[UpdateEntry] = []
        reset: shapes.Reset | None = None
        for _ in range(MOST_PAGES):
            page = await self._store.read_log(tx, tail.position, limit - len(told))
            match page:
                case Missing():
                    raise NotFound("no such transaction")
                case LogReset():
                    tail.on_reset(page)
                    told.clear()
                    view = None if page.view is None else answers.plain_value(page.view)
                    reset = {"cursor": str(page.cursor), "reason": cast(shapes.Reason, page.reason), "view": view}
                    status = page.status
                    continue
                case LogPage():
                    told += [entry for entry in tail.on_page(page) if isinstance(entry, UpdateEntry)]
                    status = page.status
            if not page.more or len(told) >= limit:
                break
        answer: shapes.UpdateList = {
            "updates": [{"cursor": str(entry.cursor), "data": answers.plain_value(entry.data)} for entry in told],
            "cursor": str(tail.position),
            "status": cast(shapes.Status, status),
        }
        if reset is not None:
            answer["reset"] = reset
        return answer
