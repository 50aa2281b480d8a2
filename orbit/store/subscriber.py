"""Sharded pub/sub: one subscriber per process, that reconnects and says when it might have missed something."""

from __future__ import annotations

from collections.abc import Callable

from orbit.protocol.entries import LiveMessage
from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.store import Store


class Subscriber:
    """Callbacks run in the loop, in the order of arrival; they must be plain and quick.

    on_gap: the connection was lost and is back, all subscriptions with it: whatever was published meanwhile is lost; resync all.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_live: Callable[[TxId, LiveMessage], None] | None = None,
        on_wake: Callable[[t.ReadyWake | t.DueWake], None] | None = None,
        on_nudge: Callable[[t.OwnerNudge], None] | None = None,
        on_edge: Callable[[bytes], None] | None = None,
        on_gap: Callable[[], None] | None = None,
    ) -> None: ...

    async def run(self) -> None:
        """Hold the connection until cancelled (reconnecting with backoff); the owner runs it as a task."""
    connected: bool
    async def watch(self, tx: TxId) -> None:
        """Returns when Redis has confirmed the subscription of the live channel."""
    async def unwatch(self, tx: TxId) -> None: ...
    async def follow_partitions(self, worker: str) -> None:
        """All wake channels and this worker's own channels."""
    async def follow_edge(self, edge: str) -> None:
        """This edge's own channel (`tell_edge`)."""
