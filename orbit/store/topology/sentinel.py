"""A primary that Sentinels watch over: found through them at each new connection, and left when they name another."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection, Connection

from orbit.errors import OrbitError, StoreUnusable
from orbit.store.address import Address, Connect, Server, abort_connection, say
from orbit.store.pipe import Pipe
from orbit.store.topology.node import Node
from orbit.store.topology.patience import Patience
from orbit.store.topology.redirects import Later, redirect_of
from orbit.store.topology.topology import Single

LOOK_S = 1.0
"""How often the Sentinels are asked who leads: what went to the one before would be lost with it."""
_ASK_S = 1.0
_PRIMARY = (b"master", b"primary")


class Sentinels:
    """Who leads, by the word of those that answer."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._service = address.service
        self._timeout_s = min(_ASK_S, timeout_s)
        self._pipes = [Pipe(address.to_sentinel(one, self._timeout_s), self._timeout_s) for one in address.hosts]

    async def primary(self) -> Server:
        """The primary, as the newest word of a majority of them has it; of fewer, where the others don't answer.

        Raises:
            redis.exceptions.RedisError: None of them answers, or knows it.
        """
        asked = {asyncio.ensure_future(self._ask(pipe)) for pipe in self._pipes}
        heard: list[tuple[int, Server]] = []
        met: BaseException | None = None
        try:
            while asked and len(heard) <= len(self._pipes) // 2:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    met = one.exception() or met
                    if one.exception() is None:
                        heard.append(one.result())
        finally:
            for one in asked:
                one.cancel()
        if heard:
            return max(heard)[1]
        raise _meant(met, self._service) from met

    async def _ask(self, pipe: Pipe) -> tuple[int, Server]:
        """The number of the failover that it knows of last, and who leads since."""
        async with asyncio.timeout(2 * self._timeout_s):
            flat: list[bytes] = await pipe.ask(("SENTINEL", "MASTER", self._service), writes=False)
        said = dict(zip(flat[::2], flat[1::2], strict=True))
        return int(said[b"config-epoch"]), Server(said[b"ip"].decode(), int(said[b"port"]))

    async def close(self) -> None:
        await asyncio.gather(*(pipe.close() for pipe in self._pipes))


def _meant(error: BaseException | None, service: str) -> Exception:
    """As what redis-py raises where a server can't be reached, or refuses for good."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, redis_errors.AuthenticationError | redis_errors.NoPermissionError | StoreUnusable):
        return redis_errors.AuthenticationError(f"the Sentinels refuse the user or password: {said}")
    if isinstance(error, redis_errors.ResponseError):
        return redis_errors.ResponseError(f"the Sentinels know no primary by the name {service!r}: {said}")
    return redis_errors.ConnectionError(f"no Sentinel answers: {said}")


class Watched(Single):
    """The primary, whichever server that is."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._sentinels = Sentinels(address, timeout_s)
        self._open: weakref.WeakSet[_Finding] = weakref.WeakSet()
        self._look = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        super().__init__(self._connector(timeout_s), timeout_s, f"the primary of {address.service}")

    async def again(self, error: Exception, node: Node, key: str | None, patience: Patience) -> tuple[Node, bool]:
        if isinstance(redirect_of(error), Later):
            self._look.set()
            await patience.pause(error)
            return node, False
        return await super().again(error, node, key, patience)

    def suspect(self, node: Node) -> None:
        self._look.set()

    def refresh(self) -> None:
        self._look.set()

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await super().close()
        await self._sentinels.close()

    def _connector(self, timeout_s: float) -> Connect:
        options = self._address.options(timeout_s) | {"db": self._address.db, "redis_connect_func": _greet}
        kind = type("_Found", (_Finding, self._address.connection_class), {})

        def connect() -> AbstractConnection:
            connection: _Finding = kind(**options)
            connection.found = self._find
            self._open.add(connection)
            return connection

        return connect

    async def _find(self) -> Server:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._watch(), name="orbit-store-sentinel")
        return await self._sentinels.primary()

    async def _watch(self) -> None:
        """Leave the servers that don't lead any more: they may not know it yet, and what they take is lost."""
        while True:
            self._look.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(LOOK_S / 10)
            try:
                leads = await self._sentinels.primary()
            except (redis_errors.RedisError, OrbitError):
                continue
            left = [connection for connection in self._open if connection.leads not in (None, leads)]
            for connection in left:
                abort_connection(connection)


class _Finding(Connection):
    """A connection that finds out where the primary is each time that it is opened."""

    found: Any
    leads: Server | None = None
    """Whom it leads to."""

    async def _connect(self) -> None:
        self.leads = await self.found()
        self.host, self.port = self.leads
        await super()._connect()  # type: ignore[no-untyped-call]


async def _greet(connection: Connection) -> None:
    """As redis-py greets, and then: only a server that takes itself for the primary will do."""
    await connection.on_connect()
    await say(connection, "HELLO")
    flat = await connection.read_response()
    said = dict(zip(flat[::2], flat[1::2], strict=True))
    if said.get(b"role") not in _PRIMARY:
        raise redis_errors.ConnectionError(f"{connection.host}:{connection.port} isn't the primary (yet, or any more)")
