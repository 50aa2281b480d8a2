"""Pages of logs for followers that aren't live. Those that stand at the same place share one, and its frames.

So a crowd that comes back at once, each client at its own pace, costs Redis and this process about what one costs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orbit.edge.frames import Rendered
from orbit.edge.tasks import Tasks, look_at
from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import LogPage, LogReset
from orbit.protocol.ids import TxId
from orbit.protocol.replay import Batch
from orbit.store.types import Missing

READS_AT_ONCE = 64
KEPT_BYTES = 4 * 1024 * 1024
KEPT_S = 1.0
"""A page is kept for those that come by a little later; so long, as Redis might lose what stands in it."""

Answer = LogPage | LogReset | Missing
Key = tuple[TxId, Cursor]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """What the log answered after a cursor; `rendered`: the frames of its entries, made at their first use."""

    answer: Answer
    rendered: Rendered | None


class Pages:
    """All pages that are being read, and a few that were.

    Args:
        read: Asks the log; raises OrbitError.
    """

    def __init__(self, read: Callable[[TxId, Cursor], Awaitable[Answer]], tasks: Tasks) -> None:
        self._read = read
        self._tasks = tasks
        self._room = asyncio.Semaphore(READS_AT_ONCE)
        self._asked: dict[Key, asyncio.Future[Page]] = {}
        self._kept: OrderedDict[Key, tuple[Page, int, float]] = OrderedDict()
        self._kept_bytes = 0

    async def get(self, tx: TxId, after: Cursor) -> Page:
        """A page, to be used before the caller waits for anything else.

        It shows the log as it was at most `KEPT_S` ago; where it may be the log's end, as it is now.

        Raises:
            OrbitError: Redis doesn't answer.
        """
        key = tx, after
        if (page := self._of_late(key)) is not None:
            return page
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.get_running_loop().create_future()
            asked.add_done_callback(look_at)  # it may be that nobody waits any more
            self._tasks.spawn(self._ask(key, asked), f"reading a page of {tx}")
        return await asyncio.shield(asked)

    def clear(self) -> None:
        """Redis may have lost what was read, and what is on its way: who asks from now on asks anew."""
        self._asked.clear()
        self._kept.clear()
        self._kept_bytes = 0

    def forget(self, tx: TxId) -> None:
        """As `clear`, of one transaction."""
        for key in [key for key in self._kept if key[0] == tx]:
            self._drop(key)

    async def _ask(self, key: Key, asked: asyncio.Future[Page]) -> None:
        try:
            async with self._room:
                page = _page(key, await self._read(*key))
        except Exception as error:
            asked.set_exception(error)
        else:
            if self._asked.get(key) is asked:
                self._keep(key, page)
            asked.set_result(page)
        finally:
            if self._asked.get(key) is asked:
                del self._asked[key]
            if not asked.done():
                asked.cancel()

    def _of_late(self, key: Key) -> Page | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if asyncio.get_running_loop().time() - kept[2] > KEPT_S:
            self._drop(key)
            return None
        return kept[0]

    def _keep(self, key: Key, page: Page) -> None:
        """Only what has something after it: the end of a log is never old."""
        if page.rendered is None or not isinstance(page.answer, LogPage) or not page.answer.more:
            return
        size = page.rendered.batch.size
        self._kept[key] = page, size, asyncio.get_running_loop().time()
        self._kept_bytes += size
        while self._kept_bytes > KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        self._kept_bytes -= self._kept.pop(key)[1]


def _page(key: Key, answer: Answer) -> Page:
    tx, after = key
    if isinstance(answer, LogPage):
        return Page(answer, Rendered(tx, Batch(after, answer.entries, over=False)))
    return Page(answer, None)
