"""Applications' verbs: start, append, cancel, retry, get."""

from __future__ import annotations

from orbit.protocol.ids import TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart, digits, milliseconds

KEY_RETAIN_S = 86_400.0
"""How long a keyed message's key is remembered."""
MAX_PRIORITY = 100


class Transactions(StorePart):
    """Starting transactions and talking to them."""

    async def start(self, new: t.NewTransaction) -> t.Started | t.Existed | t.Taken:
        """Start a transaction, once: the same id with the same body again changes nothing.

        Raises:
            OutcomeUnknown: The connection broke. The same start again is safe. Atomic in `start.lua`.
        """
        priority = max(-MAX_PRIORITY, min(MAX_PRIORITY, new.priority))
        reply = await self._link.run(
            script.START, self._keys.both(new.tx), new.tx, new.state, new.version, new.queue, new.fields,
            new.body_digest, "1" if new.connection_hooks else "", max(1, new.keep_updates),
            milliseconds(new.retain_s), milliseconds(new.delay_s), "" if new.at_ms is None else new.at_ms, priority,
            decode.parent_text(new.parent), new.lineage or new.state, digits(3),
        )
        if reply[0] == b"existed":
            return t.Existed(new.tx, decode.outcome(*reply[1:5]))
        return t.Started(new.tx) if reply[0] == b"started" else t.Taken(new.tx)

    async def append(
        self, tx: TxId, message: t.NewMessage
    ) -> t.Stored | t.WrongMid | t.InboxFull | t.NotPlace | t.Missing | t.Over | t.Barred:
        """Store a message in the transaction's inbox and wake what is to handle it.

        A message with session and mid, or with a key, is stored once however often it is sent.

        Raises:
            OutcomeUnknown: The connection broke. The same message again is safe, where it is numbered or keyed.
                Atomic in `append.lua`.
        """
        reply = await self._link.run(
            script.APPEND, self._keys.both(tx), tx, message.session or "", message.mid or "",
            str(message.place) if message.place else "", message.subject or "", message.key or "", message.data,
            digits(18), self.settings.inbox_messages, milliseconds(KEY_RETAIN_S),
        )
        match reply[0]:
            case b"missing":
                return t.Missing()
            case b"over":
                return t.Over(decode.status(reply[1]))
            case b"barred":
                return t.Barred(decode.text(reply[1]))
            case b"place":
                return t.NotPlace()
            case b"wrong":
                return t.WrongMid(int(reply[1]))
            case b"full":
                return t.InboxFull(int(reply[1]))
            case kind:
                return t.Stored(kind == b"duplicate", int(reply[1]))

    async def cancel(self, tx: TxId, reason: str) -> t.CancelSet | t.Missing | t.Over:
        """Make sure that the transaction ends as `cancelled`; what never ran ends at once.

        Raises:
            OutcomeUnknown: The connection broke. Cancelling again is safe. Atomic in `cancel.lua`.
        """
        reply = await self._link.run(script.CANCEL, self._keys.both(tx), tx, reason, digits(3))
        if reply[0] == b"missing":
            return t.Missing()
        if reply[0] == b"over":
            return t.Over(decode.status(reply[1]))
        return t.CancelSet(decode.status(reply[1]))

    async def retry(self, tx: TxId, request: str) -> t.Retried | t.NotFailed | t.Missing:
        """Let a failed transaction go on from its last snapshot, its attempts and crashes counted from none.

        Args:
            request: Names this retry: the same again changes nothing, and is answered the same.

        Raises:
            OutcomeUnknown: The connection broke. The same request again is safe. Atomic in `retry.lua`.
        """
        reply = await self._link.run(script.RETRY, self._keys.both(tx), tx, request, digits(3))
        if reply[0] == b"missing":
            return t.Missing()
        kind = t.Retried if reply[0] == b"retried" else t.NotFailed
        return kind(decode.status(reply[1]))

    async def get(self, tx: TxId) -> t.Transaction | None:
        """All that is known of a transaction but its log, or None where there is none."""
        flat = await self._link.read("HGETALL", self._keys.transaction(tx))
        return decode.transaction(tx.encode(), decode.pairs(flat)) if flat else None
