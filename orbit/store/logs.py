"""Following: pages of a log, and what committed lately."""

from __future__ import annotations

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import LogPage, LogReset
from orbit.protocol.ids import TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart


class Logs(StorePart):
    """Reading what was committed."""

    async def read_log(self, tx: TxId, after: Cursor, limit: int) -> LogPage | LogReset | t.Missing:
        """At most `limit` entries, and not many more than `max_page_bytes`, after a cursor that the log confirms.

        The log confirms a cursor as Raft does: it holds an entry of that seq and that epoch, or that is the last one
        that was trimmed. The start is confirmed where nothing was trimmed. Read in one instant, in `log.lua`.
        """
        reply = await self._link.run(
            script.LOG, (self._keys.transaction(tx),), str(after), max(1, limit), self.settings.max_page_bytes
        )
        return decode.log(reply)

    async def changed_since(self, partition: int, since_ms: int) -> tuple[int, dict[TxId, int]]:
        """The server's clock in ms, and the commit number of each transaction of the partition that committed since.

        It remembers five minutes: who asks less often must read the logs.
        """
        now, *flat = await self._link.run(script.RECENT, self._keys.whole(partition), since_ms)
        return int(now), {TxId(tx.decode()): int(number) for tx, number in decode.pairs(flat).items()}
