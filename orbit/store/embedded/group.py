"""Several servers that belong together, started and stopped as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from redis import exceptions as redis_errors

from orbit.errors import StoreUnusable
from orbit.store.embedded.server import EmbeddedServer

READY_S = 90.0
_POLL_S = 0.02
_FAILURES = (redis_errors.RedisError, OSError, TimeoutError)
_Self = TypeVar("_Self", bound="Group")

QUICK = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
"""Replication that begins at once."""


async def until(what: str, holds: Callable[[], Awaitable[bool]], within_s: float = READY_S) -> None:
    """Return when `await holds()`; a server that doesn't answer counts as no.

    Raises:
        StoreUnusable: It doesn't within that time.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            if await holds():
                return
        except _FAILURES:
            pass
        if time.monotonic() > deadline:
            raise StoreUnusable(f"the embedded servers: {what} took more than {within_s:g} s")
        await asyncio.sleep(_POLL_S)


async def role_of(server: EmbeddedServer) -> str:
    """`master` or `slave`, by its own word; `` where it doesn't answer."""
    if not server.running:
        return ""
    try:
        return (await server.info("replication")).get("role", "")
    except _FAILURES:
        return ""


async def follows(server: EmbeddedServer) -> bool:
    """Whether it is a replica that gets what its primary writes."""
    said = await server.info("replication")
    return said.get("role") == "slave" and said.get("master_link_status") == "up"


class Group:
    """Servers that are there together or not at all.

    Each is to be used directly too: `kill()`, `start()`, `pause()`, `resume()`, `restart()`, `command(...)`.
    """

    def __init__(self) -> None:
        self.servers: list[EmbeddedServer] = []

    @property
    def url(self) -> str:
        """What `Store.open` takes."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start all and return when they are one.

        Raises:
            StoreUnusable: They can't be started; nothing is left behind.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all and remove their data."""
        for server in self._all():
            server.kill()  # nothing of it is kept, so none need end in good order
        await asyncio.gather(*(server.stop() for server in self._all()))

    async def __aenter__(self: _Self) -> _Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # ---- roles

    async def primaries(self) -> list[EmbeddedServer]:
        """Those that take writes, by their own word."""
        return [server for server in self.servers if await role_of(server) == "master"]

    async def replicas_of(self, primary: EmbeddedServer) -> list[EmbeddedServer]:
        """Those that follow `primary`, by their own word."""
        found = []
        for server in self.servers:
            if server.running and server is not primary:
                said = await server.info("replication")
                if said.get("role") == "slave" and said.get("master_port") == str(primary.port):
                    found.append(server)
        return found

    async def synced(self) -> None:
        """Return when each replica has all that was written until now."""
        for primary in await self.primaries():
            offset = int((await primary.info("replication"))["master_repl_offset"])
            for replica in await self.replicas_of(primary):

                async def caught_up(replica: EmbeddedServer = replica, offset: int = offset) -> bool:
                    return int((await replica.info("replication"))["slave_repl_offset"]) >= offset

                await until("a replica's catching up", caught_up)

    async def cut_off(self, replica: EmbeddedServer) -> None:
        """From now on the replica gets nothing of what its primary writes, until `rejoin`; who it follows stays."""
        await replica.command("CONFIG", "SET", "masterauth", "cut-off")
        said = await replica.info("replication")
        for primary in self.servers:
            if str(primary.port) == said.get("master_port") and primary.running:
                await primary.command("CLIENT", "KILL", "TYPE", "replica")

        async def off() -> bool:
            return not await follows(replica)

        await until("a replica's being cut off", off)

    async def rejoin(self, replica: EmbeddedServer) -> None:
        """End `cut_off`; returns when it follows again, or leads."""
        await replica.command("CONFIG", "SET", "masterauth", "")

        async def back() -> bool:
            return await follows(replica) or await role_of(replica) == "master"

        await until("a replica's return", back)

    # ---- of each kind

    def _all(self) -> list[EmbeddedServer]:
        return self.servers

    async def _start(self) -> None:
        raise NotImplementedError
