"""Delivery of outboxes: children started, cancelled, their ends told. It is idempotent, and done again if need be."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Set

import structlog

from orbit.errors import OrbitError
from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.outboxes import child_of
from orbit.store.store import Store
from orbit.worker.settling import persist

log = structlog.get_logger("orbit.worker")

_AT_ONCE = 32
_REMEMBERED = 1_000
_ENDED = ("finished", "failed", "cancelled")


async def deliver(store: Store, tx: TxId, started: Set[str] = frozenset()) -> Set[str]:
    """Deliver what the transaction's outbox holds, and acknowledge what needn't be done again.

    Args:
        started: Children that were started a while ago, which needn't be looked at again: else, with each child that a
            parent starts, all those before would be.

    Returns:
        Those that are started now.
    """
    box = await persist(lambda: store.outbox(tx))
    if isinstance(box, t.Missing) or not box.fields:
        return frozenset()
    over = box.outcome.status in _ENDED
    done: list[str] = []
    wanted = [field for field in box.children if over or box.cancels or field not in started]
    ended = [field for field in wanted if await _child(store, tx, field, cancel=box.cancels)]
    if box.cancels and len(ended) < len(box.children):
        done += ended  # the others are cancelled again, later: Redis may lose that they were
    elif over and box.outcome.status != "failed":  # its children are on their own now
        done += [field for field in box.fields if field != "e"]
    parent = box.parent
    if parent is not None and over:
        await persist(lambda: store.deliver(parent, tx, box.outcome))
        done.append("e")
    await persist(lambda: store.acknowledge(tx, box.number, done))
    return frozenset(box.children)


async def _child(store: Store, tx: TxId, field: str, *, cancel: bool) -> bool:
    """Start a child, if it isn't; cancel it, or tell of its end, if there is one. Whether it had ended before."""
    new = await persist(lambda: store.child_start(tx, field))
    if new is None:
        return True
    answer = await persist(lambda: store.start(new))
    ended = answer.outcome if isinstance(answer, t.Existed) and answer.outcome.status in _ENDED else None
    if ended is None and cancel:
        await persist(lambda: store.cancel(new.tx, "its parent was cancelled"))
    elif ended is not None and not cancel:
        _, key = child_of(field)
        await persist(lambda: store.deliver(t.Parent(tx, key), new.tx, ended))
    return ended is not None


async def parent_has_taken(store: Store, tx: TxId) -> bool:
    """Whether a child that ended isn't needed by its parent any more; its end is told again."""
    found = await store.get(tx)
    if found is None or found.parent is None or found.parent_key is None:
        return True
    ended = t.Outcome(found.status, found.result, found.error)
    return await store.deliver(t.Parent(found.parent, found.parent_key), tx, ended) in ("gone", "taken")


class Courier:
    """Delivers outboxes beside everything else, each one at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started: OrderedDict[TxId, Set[str]] = OrderedDict()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[TxId, asyncio.Task[None]] = {}
        self._again: set[TxId] = set()
        self._closed = False

    def deliver(self, tx: TxId) -> None:
        """Something was put into this outbox. What was delivered before is left as it is."""
        if self._closed:
            return
        if tx in self._tasks:
            self._again.add(tx)
            return
        self._again.discard(tx)
        task = self._tasks[tx] = asyncio.ensure_future(self._deliver(tx))
        task.add_done_callback(lambda _: self._over(tx))

    def deliver_again(self, tx: TxId) -> None:
        """All of this outbox is to be looked at: it may have got lost that it was delivered."""
        self._started.pop(tx, None)
        self.deliver(tx)

    async def close(self, patience_s: float = 1.0) -> None:
        """Let what is under way come to its end; what doesn't is done by another worker."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=patience_s)
        await self.abandon()

    async def abandon(self) -> None:
        """Leave what is under way to its fate."""
        self._closed = True
        for task in tuple(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _deliver(self, tx: TxId) -> None:
        async with self._room:
            try:
                self._note(tx, await deliver(self._store, tx, self._started.get(tx, frozenset())))
            except OrbitError:
                log.exception("an outbox wasn't delivered: it is tried again later", tx=tx)
            except Exception:
                log.exception("a defect of the worker's", tx=tx)

    def _note(self, tx: TxId, started: Set[str]) -> None:
        """Remember it for some of the newest: what is forgotten is looked at once more."""
        self._started.pop(tx, None)
        if started:
            self._started[tx] = started
        if len(self._started) > _REMEMBERED:
            self._started.popitem(last=False)

    def _over(self, tx: TxId) -> None:
        del self._tasks[tx]
        if tx in self._again:
            self.deliver(tx)
