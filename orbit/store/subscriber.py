"""Sharded pub/sub: one subscriber per process, that reconnects and says when it might have missed something."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from orbit.protocol.entries import LiveMessage
from orbit.protocol.ids import TxId
from orbit.store import decode
from orbit.store import types as t
from orbit.store.address import open_connection
from orbit.store.prober import Prober
from orbit.store.probing import Pace
from orbit.store.store import Store
from orbit.store.subscriptions import Subscriptions

_BATCH = 100
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
_FAILURES = (redis_errors.RedisError, OSError, TimeoutError)


class Subscriber:
    """Holds one connection and all subscriptions on it, and makes both anew when nothing that is published is heard.

    Callbacks run in the loop, in the order of arrival; they must be plain and quick. One that raises ends `run` with
    its error.
    """

    connected: bool
    """Whether Redis has confirmed all that is subscribed to, on the connection that is open now."""
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
        """`on_gap`: the connection was lost, or deaf, and is back, all subscriptions with it. Whatever was published
        meanwhile is lost: resync all."""
        self.connected = False
        self.went_deaf = 0
        self._store = store
        self._on_live = on_live
        self._on_wake = on_wake
        self._on_nudge = on_nudge
        self._on_edge = on_edge
        self._on_gap = on_gap
        self._pace = pace = pace or Pace()
        self._wanted = Subscriptions()
        self._changed = asyncio.Event()
        self._deaf = asyncio.Event()
        self._prober = Prober(
            store, self._wanted, pace, changed=self._changed.set, connected=lambda: self.connected,
            on_deaf=self._deaf.set,
        )  # fmt: skip
        self._heard_s = 0.0
        self._confirmed_some = False
        self._gap = False

    @property
    def delivers(self) -> bool:
        """Redis delivers what is published, as far as probes tell; not only that a connection is open."""
        return self.connected and self._prober.delivers

    async def until_delivering(self) -> None:
        """Return when Redis delivers."""
        while not self.delivers:
            await self._prober.heard_one()

    async def run(self) -> None:
        """Hold the connection until cancelled, reconnecting with backoff; the owner runs it as a task."""
        await _first(self._hold(), self._prober.run())

    async def _hold(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            connection = self._store.link.new_connection()
            try:
                await open_connection(connection, self._store.link.timeout_s)
                await self._serve(connection)
            except _FAILURES:
                if self.connected:
                    wait_s = _FIRST_WAIT_S
            finally:
                self.connected = False
                self._gap = self._gap or self._confirmed_some
                self._wanted.lost()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))
            wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)

    async def watch(self, tx: TxId) -> None:
        """Follow a transaction's live channel.

        Returns when Redis has confirmed the subscription, after a reconnect if need be.

        Cancellation: it is followed all the same; `unwatch` ends that.
        """
        await self._follow({self._store.keys.live_channel(tx): lambda payload: self._live(tx, payload)})

    async def unwatch(self, tx: TxId) -> None:
        """Stop following. Announcements under way may still come."""
        self._wanted.drop(self._store.keys.live_channel(tx))
        self._changed.set()

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
        confirmations = [self._wanted.add(channel, handler) for channel, handler in handlers.items()]
        self._changed.set()
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

    # the connection

    async def _serve(self, connection: AbstractConnection) -> None:
        self._deaf.clear()
        await _first(self._read(connection), self._write(connection), self._listen(), self._until_deaf())

    async def _until_deaf(self) -> None:
        await self._deaf.wait()
        self.went_deaf += 1
        raise TimeoutError("the subscription is deaf")

    async def _write(self, connection: AbstractConnection) -> None:
        """Subscribe and unsubscribe as it is wanted, and ask for a sign of life when it has been quiet."""
        self._changed.set()
        while True:
            try:
                async with asyncio.timeout(self._pace.ping_s):
                    await self._changed.wait()
            except TimeoutError:
                await connection.send_command("PING", check_health=False)
                continue
            self._changed.clear()
            add, drop = self._wanted.to_send()
            await _send(connection.send_command, "SUNSUBSCRIBE", drop)
            await _send(connection.send_command, "SSUBSCRIBE", add)
            self._settle()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply = await connection.read_response(disconnect_on_error=False)
            self._heard_s = asyncio.get_running_loop().time()
            if reply[0] == b"smessage":
                self._wanted.deliver(reply[1].decode(), reply[2])
            elif reply[0] == b"ssubscribe":
                self._wanted.confirmed(reply[1].decode())
                self._confirmed_some = True
                self._settle()
            elif reply[0] == b"sunsubscribe" and not self._wanted.released(reply[1].decode()):
                raise redis_errors.ConnectionError("the server took a subscription away")

    async def _listen(self) -> None:
        """A link that answers nothing, not even a ping, is half open: nobody says so, so it must be noticed here.

        After a silence there is another moment: when the loop was blocked, what came may lie in the socket, unread.
        """
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        while True:
            before_s = self._heard_s
            silent = loop.time() - before_s >= 2 * self._pace.ping_s
            await asyncio.sleep(self._pace.ping_s / 2)
            if silent and self._heard_s == before_s:
                raise TimeoutError("the link is half open")

    def _settle(self) -> None:
        if self.connected or not self._wanted.all_confirmed:
            return
        self.connected = True
        self._prober.begin_anew()
        if self._gap and self._on_gap is not None:
            self._on_gap()
        self._gap = False


async def _send(send: Callable[..., Awaitable[None]], command: str, channels: Iterable[str]) -> None:
    channels = tuple(channels)
    for start in range(0, len(channels), _BATCH):
        await send(command, *channels[start : start + _BATCH], check_health=False)


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
