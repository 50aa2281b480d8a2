"""One connection for subscriptions, to one server, until it breaks."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from orbit.store.address import open_connection, say
from orbit.store.keys import slot_of_key
from orbit.store.subscriptions import Subscriptions
from orbit.store.topology import Node, Topology

_BATCH = 100


class Lane:
    """Subscribes to what is wanted at one server. When its `run` has ended it is of no more use."""

    def __init__(
        self, topology: Topology, node: Node, timeout_s: float, ping_s: float,
        on_confirmed: Callable[[Lane, str], None], on_taken: Callable[[Lane, str], None],
    ) -> None:  # fmt: skip
        """`on_confirmed(lane, channel)`: it hears that channel. `on_taken(lane, channel)`: it doesn't any more, as
        another server has it."""
        self.node = node
        self.wanted = Subscriptions(lambda name: on_confirmed(self, name))
        self._topology = topology
        self._timeout_s = timeout_s
        self._ping_s = ping_s
        self._on_taken = on_taken
        self._changed = asyncio.Event()
        self._heard_s = 0.0
        self.task: asyncio.Task[None] | None = None
        self.worked = False
        """Whether it has ever confirmed anything."""

    def add(self, name: str, handler: Callable[[bytes], None]) -> None:
        self.wanted.add(name, handler)
        self._changed.set()

    def drop(self, name: str) -> None:
        self.wanted.drop(name)
        self._changed.set()

    async def run(self) -> None:
        """Until the connection breaks, or a callback raises: raises what happened."""
        connection = self.node.connect()
        try:
            await open_connection(connection, self._timeout_s)
            await self._serve(connection)
        finally:
            await connection.disconnect(nowait=True)

    async def _serve(self, connection: AbstractConnection) -> None:
        jobs = [asyncio.ensure_future(job) for job in (self._read(connection), self._write(connection), self._listen())]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            error = next(iter(done)).exception()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        if error is not None:
            raise error

    async def _write(self, connection: AbstractConnection) -> None:
        """Subscribe and unsubscribe as it is wanted, and ask for a sign of life when it has been quiet."""
        self._changed.set()
        while True:
            try:
                async with asyncio.timeout(self._ping_s):
                    await self._changed.wait()
            except TimeoutError:
                await say(connection, "PING")
                continue
            self._changed.clear()
            add, drop = self.wanted.to_send()
            for batch in self._batches(drop):
                await say(connection, "SUNSUBSCRIBE", *batch)
            for batch in self._batches(add):
                await say(connection, "SSUBSCRIBE", *batch)

    def _batches(self, names: Iterable[str]) -> Iterable[list[str]]:
        """As many as may be named at once."""
        groups: dict[int, list[str]] = defaultdict(list)
        for name in names:
            groups[slot_of_key(name) if self._topology.sharded else 0].append(name)
        for group in groups.values():
            for start in range(0, len(group), _BATCH):
                yield group[start : start + _BATCH]

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                reply = await connection.read_response(disconnect_on_error=False)
            except redis_errors.MovedError as error:
                self._heed(error)
                continue
            self._heard_s = asyncio.get_running_loop().time()
            if reply[0] == b"smessage":
                self.wanted.deliver(reply[1].decode(), reply[2])
            elif reply[0] == b"ssubscribe":
                self.worked = True
                self.wanted.confirmed(reply[1].decode())
            elif reply[0] == b"sunsubscribe" and not self.wanted.released(reply[1].decode()):
                self._take(reply[1].decode())

    def _heed(self, error: redis_errors.MovedError) -> None:
        """Some request was answered so; it names the slot alone, so all of that slot are asked for elsewhere."""
        if not self._topology.learn(error, self.node):
            raise error
        for name in self.wanted.names():
            if slot_of_key(name) == error.slot_id:
                self._take(name)

    def _take(self, name: str) -> None:
        if not self._topology.sharded:
            raise redis_errors.ConnectionError("the server took a subscription away")
        self.wanted.forget(name)
        self._on_taken(self, name)

    async def _listen(self) -> None:
        """A link that answers nothing, not even a ping, is half open: nobody says so, so it must be noticed here.

        After a silence there is another moment: when the loop was blocked, what came may lie in the socket, unread.
        """
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        while True:
            before_s = self._heard_s
            silent = loop.time() - before_s >= 2 * self._ping_s
            await asyncio.sleep(self._ping_s / 2)
            if silent and self._heard_s == before_s:
                raise TimeoutError("the subscription is deaf")
