"""Workers' verbs: claim, load, read_work, renew, release, due, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from orbit.protocol.ids import Epoch, InboxId, TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart, digits

LOADED_BYTES = 64 * 1024
"""A claim brings along fields that take so much at most; larger ones are loaded by themselves."""
RECENT_MS = 300_000
"""How long a commit stands in its partition's recent set."""


class Grants(StorePart):
    """Who runs what."""

    async def claim(
        self, partition: int, worker: str, specs: Sequence[t.Spec], room: int, lease_ms: int, request: str
    ) -> tuple[t.Grant, ...]:
        """Take the most urgent ready transactions of these specs, each under a new epoch.

        Args:
            request: An id drawn by the caller. The same again (the reply was lost) returns what is still held of the
                same grants, with their leases begun anew.

        Raises:
            OutcomeUnknown: The connection broke. The same request again is safe within the lease.
                Atomic in `claim.lua`.
        """
        if room <= 0 or not specs:
            return ()
        reply = await self._link.run(
            script.CLAIM, self._keys.whole(partition), worker, request, lease_ms, room, digits(3), LOADED_BYTES,
            *(part for spec in specs for part in (spec.queue, spec.state, spec.version)),
        )
        return tuple(decode.grant(raw) for raw in reply)

    async def load(self, tx: TxId, epoch: Epoch) -> t.Loaded | t.Fenced | t.Vanished:
        """All that a worker needs to go on with a transaction, read in one instant under its grant, in `load.lua`."""
        return decode.loaded(await self._link.run(script.LOAD, (self._keys.transaction(tx),), epoch))

    async def read_work(self, tx: TxId, after: InboxId | None, limit: int) -> t.Work | t.Missing:
        """What waits for the owner: messages after the one it saw last, and sessions' changes; in `work.lua`."""
        reply = await self._link.run(
            script.WORK, (self._keys.transaction(tx),), after or "", max(1, limit), self.settings.max_page_bytes
        )
        return decode.work(reply)

    async def read_message(self, tx: TxId, entry: InboxId) -> t.InboxEntry | None:
        """One message of the inbox; None where it isn't there (Redis lost it)."""
        found = await self._link.read("XRANGE", f"{self._keys.transaction(tx)}:inbox", entry, entry)
        return decode.inbox_entry(found[0]) if found else None

    async def renew(self, partition: int, worker: str, held: Sequence[t.Held], lease_ms: int) -> t.Renewal:
        """Extend the leases that the worker still holds. All of `held` are of this partition. Atomic in `renew.lua`."""
        if not held:
            return t.Renewal(frozenset(), frozenset(), frozenset())
        flags = await self._link.run(
            script.RENEW, self._keys.whole(partition), worker, lease_ms,
            *(part for one in held for part in (one.tx, one.epoch, one.number)),
        )
        answers = list(zip((one.tx for one in held), flags, strict=True))
        return t.Renewal(
            lost=frozenset(tx for tx, flag in answers if not flag),
            waiting=frozenset(tx for tx, flag in answers if flag & 2),
            cancelled=frozenset(tx for tx, flag in answers if flag & 4),
        )

    async def release(
        self, tx: TxId, epoch: Epoch, number: int, last_seen: InboxId | None, *,
        idle: bool, waits_for: str | None = None, timers: Sequence[tuple[str, int]] = (),
    ) -> t.Released | t.Fenced | t.Vanished:
        """Hand over (`idle=False`: ready at once) or put to sleep (idle, unless something waits: then ready).

        Args:
            number: The last commit that the worker knows of; where Redis is at another one, it is ready at once.
            waits_for: The limit whose permit it waits for: as idle, but `pending`.
            timers: Times at which it wakes, beside those that it has: member and ms from now. Messages wake it before.

        Raises:
            OutcomeUnknown: The connection broke. Releasing again is safe. Atomic in `release.lua`.
        """
        reply = await self._link.run(
            script.RELEASE, self._keys.both(tx), tx, epoch, number, last_seen or "",
            "waits" if waits_for is not None else "idle" if idle else "", waits_for or "",
            *(part for member, ms in timers for part in (member, max(0, ms))),
        )
        if reply[0] == b"vanished":
            return t.Vanished()
        if reply[0] == b"fenced":
            return t.Fenced()
        return t.Released("idle" if reply[1] == b"idle" else "pending")

    async def due(self, partition: int, limit: int = 100) -> t.DueAnswer:
        """Make ready what has an expired lease or is to wake, and say what is left to do; in `due.lua`.

        Calling it twice, even at once, is safe.
        """
        return decode.due(
            await self._link.run(script.DUE, self._keys.whole(partition), max(1, limit), RECENT_MS, digits(18))
        )

    async def remove(self, tx: TxId, *, taken: bool = False) -> bool | None:
        """Remove an ended transaction past its retention, whole; whether it was. Atomic in `remove.lua`.

        Args:
            taken: Its parent has taken its end, or is gone.

        Returns:
            None: It is a child whose parent is to be asked first.
        """
        answer = await self._link.run(script.REMOVE, self._keys.both(tx), tx, "1" if taken else "")
        return None if answer == 2 else bool(answer)

    async def ready_counts(self, specs: Collection[t.Spec]) -> dict[t.Spec, int]:
        """How many of each of these wait for a worker now, over all partitions."""
        wanted = [(spec, partition) for spec in specs for partition in range(self._keys.partitions)]
        found = await asyncio.gather(
            *(self._link.read("ZCARD", self._keys.ready(partition, spec)) for spec, partition in wanted)
        )
        counts = dict.fromkeys(specs, 0)
        for (spec, _), count in zip(wanted, found, strict=True):
            counts[spec] += count
        return counts
