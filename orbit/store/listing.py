"""Listing transactions, newest first, over all partitions.

Each partition answers with its newest; the lists are merged as long as none of them might hold something newer that it
hasn't told yet. A page's text names the last place that was looked at, so a filter that fits little gives short pages,
not slow ones.
"""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from orbit.errors import BadRequest
from orbit.protocol.ids import TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart

_SCAN = 200
"""How many transactions one call looks at, at most."""
_ROUNDS = 20
"""How often partitions are asked again for one page."""
_CALL_BYTES = 256 * 1024
_PLACE = re.compile(r"([0-9]{1,16}) ([A-Za-z0-9_-]{16,64})", re.ASCII)

_Place = tuple[int, str]
"""When a transaction was made, and its id: the order of listings."""


@dataclass(frozen=True, slots=True)
class _Query:
    state: str
    status: str
    limit: int


@dataclass(slots=True)
class _Source:
    """What one partition has told so far. `after`: the last place that it looked at; None: it has no more."""

    partition: int
    after: _Place | None
    untouched: bool = True
    rows: deque[tuple[_Place, Any]] = field(default_factory=deque)
    """What is still to be merged, newest first, as it was answered: most of it no page will ever hold."""

    @property
    def may_have_more(self) -> bool:
        return self.untouched or self.after is not None


class Listing(StorePart):
    """Looking at all transactions."""

    async def list(
        self, *, state: str | None = None, status: str | None = None, limit: int = 100, page: str | None = None
    ) -> t.ListPage:
        """At most `limit` transactions, newest first. `page`: the `next` of the page before.

        A page may be shorter than `limit`, even empty, while `next` says that there is more.

        Raises:
            BadRequest: `page` is none that this store gave.
        """
        query = _Query(state or "", status or "", max(1, limit))
        start = _read_page(page) if page is not None else None
        sources = [_Source(partition, start) for partition in range(self._keys.partitions)]
        found: list[tuple[_Place, t.Transaction]] = []
        room = self.settings.max_page_bytes
        for _ in range(_ROUNDS):
            await asyncio.gather(
                *(self._fill(one, query) for one in sources if not one.rows and one.may_have_more)
            )
            room = _merge(sources, found, query.limit, room)
            if len(found) >= query.limit or room <= 0 or not any(one.rows or one.may_have_more for one in sources):
                break
        return t.ListPage(tuple(row for _, row in found), _next_page(sources, found))

    async def newest_snapshot(self, tx: TxId) -> tuple[int, bytes] | None:
        """The version and the fields of a transaction's newest snapshot; None where it has none any more."""
        found = await self._link.read("XREVRANGE", f"{self._keys.transaction(tx)}:snap", "+", "-", "COUNT", 1)
        if not found:
            return None
        fields = decode.pairs(found[0][1])
        return int(fields[b"v"]), fields[b"f"]

    async def _fill(self, source: _Source, query: _Query) -> None:
        want = max(4, 2 * query.limit // self._keys.partitions)
        after = source.after or ("", "")
        created, last, *raw = await self._link.run(
            script.LIST, self._keys.whole(source.partition), *after, query.state, query.status, want, _SCAN, _CALL_BYTES
        )
        source.untouched = False
        source.after = (int(created), last.decode()) if created else None
        source.rows.extend(map(_row, raw))


def _row(raw: Any) -> tuple[_Place, Any]:
    return (int(raw[1]), raw[0].decode()), raw


def _merge(
    sources: list[_Source], found: list[tuple[_Place, t.Transaction]], limit: int, room: int
) -> int:
    """Move rows into `found`, newest first, as long as no partition might tell a newer one. Returns the room left."""
    horizon = max((one.after for one in sources if not one.rows and one.after is not None), default=None)
    told = [(place, source) for source in sources for place, _ in source.rows]
    for place, source in sorted(told, key=itemgetter(0), reverse=True):
        if len(found) >= limit or room <= 0 or (horizon is not None and place < horizon):
            break
        _, (tx, _, meta) = source.rows.popleft()
        row = decode.transaction(tx, decode.pairs(meta))
        found.append((place, row))
        room -= 512 + len(row.result or b"") + len(row.trace or "")
        if not source.rows and source.after is not None:
            horizon = max(horizon, source.after) if horizon is not None else source.after
    return room


def _next_page(sources: list[_Source], found: list[tuple[_Place, t.Transaction]]) -> str | None:
    """Everything down to this place was looked at: the newest place at which a partition goes on."""
    if not any(one.rows or one.may_have_more for one in sources):
        return None
    unread = [one.after for one in sources if not one.rows and one.after is not None]
    newest_row = max((one.rows[0][0] for one in sources if one.rows), default=None)
    horizon = max(unread, default=None)
    all_told = horizon is not None and (newest_row is None or newest_row < horizon)
    place = horizon if all_told and horizon is not None else found[-1][0]
    return urlsafe_b64encode(f"{place[0]} {place[1]}".encode()).decode().rstrip("=")


def _read_page(page: str) -> _Place:
    try:
        text = urlsafe_b64decode(page.encode() + b"=" * (-len(page) % 4)).decode("ascii")
    except (Base64Error, ValueError):
        text = ""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise BadRequest("`page` is none that a listing gave as `next`")
    return int(match[1]), match[2]
