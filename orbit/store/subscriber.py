"""Sharded pub/sub: one subscriber per process, that reconnects and says when it might have missed something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from orbit.protocol.entries import LiveMessage
from orbit.protocol.ids import TxId
from orbit.store import decode
from orbit.store import types as t
from orbit.store.lanes import Lanes
from orbit.store.prober import Prober
from orbit.store.probing import Pace
from orbit.store.store import Store


class Subscriber:
    """Holds all subscriptions, on a connection to each server that has some of them, and makes them anew when nothing
    that is published is heard.

    Callbacks run in the loop, in the order of arrival; they must be plain and quick. One that raises ends `run` with
    its error.
    """

    went_deaf: int
    """How often it was made anew because nothing was heard."""

    def __init__(
        self,
        store: Store,
        *,
        on_live: Callable[[TxId, LiveMessage], None] | None = None,
        on_wake: Callable[[t.ReadyWake | t.DueWake], None] | None = None,
        on_nudge: Callable[[t.OwnerNudge], None] | None = None,
        on_edge: Callable[[bytes], None] | None = None,
        on_gap: Callable[[], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`on_gap`: a connection was lost, or deaf, or a channel has moved to another server, and all subscriptions are
        there again. Whatever was published meanwhile is lost: resync all."""
        self.went_deaf = 0
        self._store = store
        self._on_live = on_live
        self._on_wake = on_wake
        self._on_nudge = on_nudge
        self._on_edge = on_edge
        self._on_gap = on_gap
        pace = pace or Pace()
        link = store.link
        self._lanes = Lanes(link.topology, link.timeout_s, pace.ping_s, self._settled)
        self._prober = Prober(
            store, self._lanes, pace, connected=lambda: self.connected, on_deaf=self._on_deaf
        )

    @property
    def connected(self) -> bool:
        """Whether Redis has confirmed all that is subscribed to, on the connections that are open now."""
        return self._lanes.connected

    @property
    def delivers(self) -> bool:
        """Redis delivers what is published, as far as probes tell; not only that a connection is open."""
        return self.connected and self._prober.delivers

    async def until_delivering(self) -> None:
        """Return when Redis delivers."""
        while not self.delivers:
            await self._prober.heard_one()

    async def run(self) -> None:
        """Hold the connections until cancelled, reconnecting with backoff; the owner runs it as a task."""
        await _first(self._lanes.run(), self._prober.run())

    async def watch(self, tx: TxId) -> None:
        """Follow a transaction's live channel.

        Returns when Redis has confirmed the subscription, after a reconnect if need be.

        Cancellation: it is followed all the same; `unwatch` ends that.
        """
        await self._follow({self._store.keys.live_channel(tx): lambda payload: self._live(tx, payload)})

    async def unwatch(self, tx: TxId) -> None:
        """Stop following. Announcements under way may still come."""
        self._lanes.drop(self._store.keys.live_channel(tx))

    async def follow_partitions(self, worker: str) -> None:
        """All wake channels and this worker's own channels."""
        handlers: dict[str, Callable[[bytes], None]] = {}
        for partition in range(self._store.partitions):
            handlers[self._store.keys.wake_channel(partition)] = self._wake_of(partition)
            handlers[self._store.keys.worker_channel(partition, worker)] = self._nudge
        await self._follow(handlers)

    async def follow_worker(self, partition: int, worker: str) -> None:
        """A worker's own channel in one partition."""
        await self._follow({self._store.keys.worker_channel(partition, worker): self._nudge})

    async def follow_edge(self, edge: str) -> None:
        """This edge's own channel (`tell_edge`)."""
        await self._follow({self._store.keys.edge_channel(edge): self._edge})

    async def _follow(self, handlers: dict[str, Callable[[bytes], None]]) -> None:
        confirmations = [self._lanes.add(channel, handler) for channel, handler in handlers.items()]
        try:
            await asyncio.gather(*(one for one in confirmations if not one.done()))
        finally:
            for one in confirmations:
                one.cancel()

    # what arrives

    def _live(self, tx: TxId, payload: bytes) -> None:
        if self._on_live is not None:
            self._on_live(tx, decode.live(payload))

    def _wake_of(self, partition: int) -> Callable[[bytes], None]:
        def wake(payload: bytes) -> None:
            if self._on_wake is not None:
                self._on_wake(decode.wake(partition, payload))

        return wake

    def _nudge(self, payload: bytes) -> None:
        if self._on_nudge is not None:
            self._on_nudge(decode.nudge(payload))

    def _edge(self, payload: bytes) -> None:
        if self._on_edge is not None:
            self._on_edge(payload)

    # the connections

    def _on_deaf(self) -> None:
        self.went_deaf += 1
        self._lanes.renew()

    def _settled(self, gap: bool) -> None:
        """All is subscribed (again)."""
        self._prober.begin_anew()
        if gap and self._on_gap is not None:
            self._on_gap()


async def _first(*work: Coroutine[Any, Any, None]) -> None:
    """Until the first of them ends, or this is cancelled; raises what that one raised."""
    jobs = [asyncio.ensure_future(job) for job in work]
    try:
        done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        error = next(iter(done)).exception()
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    if error is not None:
        raise error
