"""A primary and its replicas, watched over by three Sentinels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from orbit.errors import StoreUnusable
from orbit.store.embedded.group import until
from orbit.store.embedded.replicated import ReplicatedServer
from orbit.store.embedded.server import EmbeddedServer

SERVICE = "orbit"
_SENTINELS = 3
_QUORUM = 2
_FAILOVER_S = 1


class _Sentinel(EmbeddedServer):
    """A Sentinel. What it is told at first is all that `lines` say; then it keeps its own file."""

    def __init__(self, lines: tuple[str, ...], program: Path | None) -> None:
        super().__init__(tcp=True, program=program)
        self._more = lines

    def _arguments(self) -> tuple[str, ...]:
        return ("--sentinel",)

    def _lines(self) -> dict[str, str]:
        own = {
            "dir": str(self._folder), "bind": "127.0.0.1", "port": str(self._port), "daemonize": "no",
            "logfile": "server.log",
        }  # fmt: skip
        return own | {f"sentinel {line}": "" for line in self._more}


class SentinelTrio(ReplicatedServer):
    """`servers`: the primary and its replicas. `sentinels`: three of them, of which two decide."""

    def __init__(
        self, replicas: int = 1, *, down_after_ms: int = 1_000, config: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:  # fmt: skip
        """down_after_ms: how long a primary is silent before it is taken for dead."""
        super().__init__(replicas, config=config, program=program)
        self.sentinels: list[EmbeddedServer] = []
        self._down_after_ms = down_after_ms

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def primary(self) -> EmbeddedServer:
        """The server that the Sentinels name.

        Raises:
            StoreUnusable: None of them answers, or they name another one.
        """
        for sentinel in self.sentinels:
            if sentinel.running:
                _, port = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                for server in self.servers:
                    if server.port == int(port):
                        return server
        raise StoreUnusable("the embedded Sentinels name no server of theirs")

    async def promote(self, replica: EmbeddedServer) -> None:
        """The Sentinels make it the primary, with what it has; the one before follows it, and loses what it hasn't.

        They choose for themselves: with several replicas, cut off or kill those that are not to be chosen. They leave
        the one before as it is for some ten seconds; here it is told at once what they would tell it then.
        """
        before = await self.primary()

        async def asked() -> bool:
            return bool(await self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE) == b"OK")

        await until("a failover's beginning", asked)
        after = await self.replaced(before)
        await before.command("REPLICAOF", "127.0.0.1", after.port)
        await before.command("CLIENT", "KILL", "TYPE", "normal")
        await before.command("CLIENT", "KILL", "TYPE", "pubsub")
        await self._at_peace()

    async def replaced(self, before: EmbeddedServer) -> EmbeddedServer:
        """Return when all Sentinels name another primary than `before`; that one, which takes writes."""

        async def over() -> bool:
            named = set()
            for sentinel in self.sentinels:
                if sentinel.running:
                    named.add(int((await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE))[1]))
            return before.port not in named and len(named) == 1

        await until("a failover", over)
        after = await self.primary()
        await after.command("CONFIG", "SET", "masterauth", "")
        return after

    # ---- inside

    def _all(self) -> list[EmbeddedServer]:
        return [*self.sentinels, *self.servers]

    async def _start(self) -> None:
        await super()._start()
        lines = (
            f"monitor {SERVICE} 127.0.0.1 {self.servers[0].port} {_QUORUM}",
            f"down-after-milliseconds {SERVICE} {self._down_after_ms}",
            f"failover-timeout {SERVICE} {_FAILOVER_S * 1000}",
            f"parallel-syncs {SERVICE} 1",
        )
        self.sentinels = [_Sentinel(lines, self._program) for _ in range(_SENTINELS)]
        await asyncio.gather(*(sentinel.start() for sentinel in self.sentinels))
        await self._at_peace()

    async def _at_peace(self) -> None:
        """Each Sentinel knows the others and all replicas, and no failover is under way."""

        async def peace() -> bool:
            for sentinel in self.sentinels:
                flat = await sentinel.command("SENTINEL", "MASTER", SERVICE)
                said = dict(zip(flat[::2], flat[1::2], strict=True))
                others, replicas = int(said[b"num-other-sentinels"]), int(said[b"num-slaves"])
                if (others, replicas, said[b"flags"]) != (_SENTINELS - 1, len(self.servers) - 1, b"master"):
                    return False
            return True

        await until("the Sentinels' agreement", peace)
