"""One primary and its replicas, without anything that watches over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from orbit.store.embedded.group import QUICK, Group, follows, until
from orbit.store.embedded.server import EmbeddedServer


class ReplicatedServer(Group):
    """A primary, `servers[0]` at first, and replicas that follow it."""

    def __init__(
        self, replicas: int = 1, *, config: Mapping[str, str] | None = None, program: Path | None = None
    ) -> None:
        super().__init__()
        self._config = {**QUICK, **(config or {})}
        self._program = program
        self._replicas = replicas

    @property
    def url(self) -> str:
        """The address of `servers[0]`."""
        return self.servers[0].url

    async def _start(self) -> None:
        count = 1 + self._replicas
        self.servers = [EmbeddedServer(tcp=True, config=self._config, program=self._program) for _ in range(count)]
        await asyncio.gather(*(server.start() for server in self.servers))
        await self._follow(self.servers[0])

    async def promote(self, replica: EmbeddedServer) -> None:
        """It takes writes, with what it has; those that run follow it, and lose what it hasn't."""
        await replica.command("REPLICAOF", "NO", "ONE")
        await replica.command("CONFIG", "SET", "masterauth", "")
        await self._follow(replica)

    async def _follow(self, primary: EmbeddedServer) -> None:
        others = [server for server in self.servers if server is not primary and server.running]
        for server in others:
            await server.command("REPLICAOF", "127.0.0.1", primary.port)
        for server in others:
            await until("a replica's first copy", lambda server=server: follows(server))  # type: ignore[misc]
