"""Claiming: which partitions may hold something for this worker, and how much it takes at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

import structlog

from orbit.store import types as t
from orbit.store.store import Store
from orbit.worker.lease import now_s
from orbit.worker.settling import BROKEN, Backoff

log = structlog.get_logger("orbit.worker")

_AT_ONCE = 8
"""At most so many from one partition with one request, so that the room is shared between partitions."""
_UNDER_WAY = 16
_SOON_S = 0.002
_PASSES = 8
"""Of the loop, in which what was granted gets as far as its first commit. All at once would go on in step: this worker
idle while Redis works, and the other way round."""


class Claimer:
    """Claims from the partitions that were named to it, as long as there is room.

    `on_grant(grant, asked_s)` is called for each, with the time before the claim was sent; `on_full()` where something
    may wait for room.
    """

    def __init__(
        self, store: Store, worker: str, specs: Sequence[t.Spec], lease_s: float, room: Callable[[], int],
        on_grant: Callable[[t.Grant, float], None], on_full: Callable[[], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._worker = worker
        self._specs = specs
        self._lease_s = lease_s
        self._room = room
        self._on_grant = on_grant
        self._on_full = on_full
        self._wanted: dict[int, None] = {}
        self._asking: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._handing_over = asyncio.Lock()
        self._closed = False
        self._soon: asyncio.TimerHandle | None = None

    @property
    def reserved(self) -> int:
        return sum(self._asking.values())

    def want(self, partition: int) -> None:
        """Something may be ready there."""
        self._wanted[partition] = None
        self.pump()

    def pump(self) -> None:
        """Claim as far as there is room."""
        if self._closed:
            return
        for partition in tuple(self._wanted):
            room = self._room() - self.reserved
            if room <= 0:
                self._on_full()
                return
            if len(self._asking) >= _UNDER_WAY:
                return
            if partition in self._asking:
                continue  # asked again when the answer is there
            del self._wanted[partition]
            self._asking[partition] = min(room, _AT_ONCE)
            task = asyncio.ensure_future(self._claim(partition, self._asking[partition]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def pump_soon(self) -> None:
        """There is a little room. A moment later there may be more, which one request can fill."""
        if self._room() - self.reserved >= _AT_ONCE:
            self.pump()
        elif self._soon is None and self._wanted:
            self._soon = asyncio.get_running_loop().call_later(_SOON_S, self._pump_now)

    def _pump_now(self) -> None:
        self._soon = None
        self.pump()

    async def close(self) -> None:
        """Claim nothing more; what was asked for is still granted."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def abandon(self) -> None:
        """Claim nothing more, and don't wait for what was asked for."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _claim(self, partition: int, room: int) -> None:
        asked_s = now_s()
        try:
            grants = await self._granted(partition, room)
            self._asking[partition] = len(grants)  # what was granted has its room, also while it waits to be begun
            await self._handing_over.acquire()
        finally:
            del self._asking[partition]
        try:
            for grant in grants:
                self._on_grant(grant, asked_s)
            for _ in range(_PASSES if grants else 0):
                await asyncio.sleep(0)
        finally:
            self._handing_over.release()
        self.pump()

    async def _granted(self, partition: int, room: int) -> tuple[t.Grant, ...]:
        """What the partition gives; it is asked again where there may be more, or where nobody knows."""
        try:
            grants = await self._ask(partition, room)
        except BROKEN:
            self._wanted[partition] = None
            return ()
        except Exception:
            log.exception("a claim failed", partition=partition)
            return ()
        if len(grants) == room:
            self._wanted[partition] = None
        return grants

    async def _ask(self, partition: int, room: int) -> tuple[t.Grant, ...]:
        """The grants, asked for under one id until the answer comes: older than a lease they are worth nothing."""
        request = secrets.token_hex(8)
        backoff = Backoff()
        until_s = now_s() + self._lease_s / 2
        lease_ms = int(self._lease_s * 1000)
        while True:
            try:
                return await self._store.claim(partition, self._worker, self._specs, room, lease_ms, request)
            except BROKEN:
                if self._closed and now_s() > until_s:
                    raise
                await asyncio.sleep(backoff.next_s())
                if now_s() > until_s:
                    request, until_s = secrets.token_hex(8), now_s() + self._lease_s / 2
