"""All channels of a subscriber, each on the connection to the server that has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from redis import exceptions as redis_errors

from orbit.store.lane import Lane
from orbit.store.topology import Node, Topology

REFRESH_S = 5.0
"""How often it is asked who holds what, where that may change: a server that was replaced may not know it."""
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
_UNKNOWN_S = 0.2
"""How often it is asked who holds what while that isn't known."""
_TAKEN_S = 0.02
"""From a channel's being taken away to its being asked for elsewhere: servers that don't agree yet aren't hurried."""
_FAILURES = (redis_errors.RedisError, OSError, TimeoutError)


@dataclass(slots=True, eq=False)
class _Channel:
    handler: Callable[[bytes], None]
    lane: Lane | None = None
    confirmed: bool = False
    waiting: set[asyncio.Future[None]] = field(default_factory=set)


@dataclass(slots=True)
class _Rest:
    """Of a server whose connection broke: how long, and until when."""

    wait_s: float
    until_s: float


class Lanes:
    """Places channels on connections, and places them anew when those break or a channel has moved.

    `on_settled(gap)`: all is heard (again). `gap`: something that was heard before wasn't for a while.
    """

    def __init__(
        self, topology: Topology, timeout_s: float, ping_s: float, on_settled: Callable[[bool], None]
    ) -> None:
        self._topology = topology
        self._timeout_s = timeout_s
        self._ping_s = ping_s
        self._on_settled = on_settled
        self._channels: dict[str, _Channel] = {}
        self._unconfirmed: set[str] = set()
        self._homeless: dict[str, None] = {}
        self._lanes: dict[Node, Lane] = {}
        self._rests: dict[Node, _Rest] = {}
        self._over: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._moved = False
        self._taken = False
        self._gap = False
        self._looked_s = 0.0
        self.connected = False
        """Whether all that is wanted has been confirmed, and nothing of it was lost since."""

    def add(self, name: str, handler: Callable[[bytes], None]) -> asyncio.Future[None]:
        """Want a channel; the future is done when it is confirmed."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(handler)
            self._unconfirmed.add(name)
            self._homeless[name] = None
            self._changed.set()
        channel.handler = handler
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if channel.confirmed:
            confirmation.set_result(None)
        else:
            channel.waiting.add(confirmation)
            confirmation.add_done_callback(channel.waiting.discard)
        return confirmation

    def drop(self, name: str) -> None:
        """Want it no more. Who still waits for its confirmation goes on waiting no longer."""
        channel = self._channels.pop(name, None)
        if channel is None:
            return
        self._homeless.pop(name, None)
        if channel.lane is not None:
            channel.lane.drop(name)
        self._unconfirmed.discard(name)
        _release(channel)
        self._changed.set()

    def __len__(self) -> int:
        """How many are wanted."""
        return len(self._channels)

    def renew(self) -> None:
        """Make all connections anew: nothing is heard over those that there are."""
        for lane in tuple(self._lanes.values()):
            self._abandon(lane)
            if lane.task is not None:
                lane.task.cancel()
                self._over.append(lane.task)
        self._changed.set()

    async def run(self) -> None:
        """Hold the connections until cancelled.

        Raises:
            What a callback raised.
        """
        self._topology.listeners.add(self._on_moved)
        try:
            while True:
                self._place()
                await self._something()
        finally:
            self.connected = False
            self._topology.listeners.discard(self._on_moved)
            tasks = [*self._over, *(lane.task for lane in self._lanes.values() if lane.task is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._over.clear()
            for lane in tuple(self._lanes.values()):
                self._abandon(lane)

    # ---- placing

    def _place(self) -> None:
        """What has no connection gets one, where the server is known and not at rest."""
        if self._moved:
            self._moved = False
            self._leave_wrong()
        now = asyncio.get_running_loop().time()
        for name in tuple(self._homeless):
            node = self._topology.known(name)
            if node is None or (node in self._rests and self._rests[node].until_s > now):
                continue
            del self._homeless[name]
            channel = self._channels[name]
            channel.lane = self._lane(node)
            channel.lane.add(name, self._deliver(name))
        self._settle()

    def _deliver(self, name: str) -> Callable[[bytes], None]:
        def deliver(payload: bytes) -> None:
            channel = self._channels.get(name)
            if channel is not None:
                channel.handler(payload)

        return deliver

    def _leave_wrong(self) -> None:
        """What another server has by now goes there; connections with nothing on them are closed."""
        for name, channel in self._channels.items():
            if channel.lane is not None:
                node = self._topology.known(name)
                if node is not None and node is not channel.lane.node:
                    channel.lane.drop(name)
                    self._uproot(name, channel)
        used = {channel.lane for channel in self._channels.values()}
        for lane in tuple(self._lanes.values()):
            if lane not in used and lane.task is not None:
                lane.task.cancel()

    def _lane(self, node: Node) -> Lane:
        lane = self._lanes.get(node)
        if lane is None:
            lane = Lane(self._topology, node, self._timeout_s, self._ping_s, self._on_confirmed, self._on_taken)
            self._lanes[node] = lane
            lane.task = asyncio.get_running_loop().create_task(lane.run(), name=f"orbit-store-lane {node.name}")
            lane.task.add_done_callback(lambda task: self._changed.set())
        return lane

    def _uproot(self, name: str, channel: _Channel) -> None:
        self._gap = self._gap or channel.confirmed
        self.connected = False
        channel.lane, channel.confirmed = None, False
        self._unconfirmed.add(name)
        self._homeless[name] = None

    def _abandon(self, lane: Lane) -> None:
        if self._lanes.get(lane.node) is lane:
            del self._lanes[lane.node]
        for name, channel in self._channels.items():
            if channel.lane is lane:
                self._uproot(name, channel)

    # ---- what happens

    async def _something(self) -> None:
        """Return when there may be something to place."""
        try:
            async with asyncio.timeout(self._idle_s()):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()
        self._over = [task for task in self._over if not task.done()]
        if self._taken:
            self._taken = False
            await asyncio.sleep(_TAKEN_S)
        for lane in tuple(self._lanes.values()):
            if lane.task is not None and lane.task.done():
                self._end(lane)
        now = asyncio.get_running_loop().time()
        if self._topology.sharded and (self._unknown() or now - self._looked_s >= REFRESH_S):
            self._looked_s = now
            self._topology.refresh()

    def _idle_s(self) -> float | None:
        """How long nothing is to be done, if nothing happens; None: for ever."""
        now = asyncio.get_running_loop().time()
        until_s = [self._looked_s + REFRESH_S] if self._topology.sharded else []
        for node in {self._topology.known(name) for name in self._homeless}:
            if node is None:
                until_s.append(now + _UNKNOWN_S)
            elif node in self._rests:
                until_s.append(self._rests[node].until_s)
        return max(0.0, min(until_s) - now) if until_s else None

    def _unknown(self) -> bool:
        return any(self._topology.known(name) is None for name in self._homeless)

    def _end(self, lane: Lane) -> None:
        """Its connection broke; where a callback raised, that is the end of all."""
        assert lane.task is not None
        self._abandon(lane)
        error = None if lane.task.cancelled() else lane.task.exception()
        if error is None:
            return
        if not isinstance(error, _FAILURES):
            raise error
        self._topology.suspect(lane.node)
        before = self._rests.get(lane.node)
        wait_s = _FIRST_WAIT_S if lane.worked or before is None else min(_LONGEST_WAIT_S, 2 * before.wait_s)
        now = asyncio.get_running_loop().time()
        self._rests[lane.node] = _Rest(wait_s, now + wait_s * random.uniform(0.5, 1))

    def _on_moved(self) -> None:
        self._moved = True
        self._changed.set()

    def _on_confirmed(self, lane: Lane, name: str) -> None:
        channel = self._channels.get(name)
        if channel is None or channel.lane is not lane:
            return
        channel.confirmed = True
        self._unconfirmed.discard(name)
        _release(channel)
        self._settle()

    def _on_taken(self, lane: Lane, name: str) -> None:
        channel = self._channels.get(name)
        if channel is not None and channel.lane is lane:
            self._uproot(name, channel)
        self._taken = True
        self._changed.set()

    def _settle(self) -> None:
        if self._unconfirmed or self.connected:
            return
        self.connected = True
        gap, self._gap = self._gap, False
        self._on_settled(gap)


def _release(channel: _Channel) -> None:
    for confirmation in tuple(channel.waiting):
        if not confirmation.done():
            confirmation.set_result(None)
