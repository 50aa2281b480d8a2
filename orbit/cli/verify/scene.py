"""The processes of a run: Redis (our own, or the one that was named), workers and edges, and a proxy on every way."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from orbit.cli.verify.seats import Seat
from orbit.store.durability import Durability
from orbit.store.embedded import EmbeddedServer, ReplicatedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from orbit.verify.proxy import Proxy

APP = "orbit.cli.verify.states"
WORKERS = EDGES = 2
LEASE_S, DRAIN_S, GRACE_S = 2.0, 5.0, 1.0
PARTITIONS = 32
CLIENT_BUFFER_BYTES = 32_768
"""Between an edge and its clients: little, so that one that reads slowly is soon felt."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the run is against.

    Attributes:
        redis: The URL of a Redis; None for our own.
        replica: Our own has a replica, for failovers.
        logs: Where what the processes print is kept; None for nowhere.
        durability: What acknowledgements wait for; None for nothing.
    """

    redis: str | None
    replica: bool
    logs: Path | None
    durability: Durability | None = None


def proxied(redis: str | None) -> bool:
    """Whether the way to this Redis can lead through a proxy: one address, nothing encrypted."""
    return redis is None or urlsplit(redis).scheme in ("redis", "unix")


class Scene:
    """Everything that runs, for as long as `async with` holds it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.namespace = f"verify-{secrets.token_hex(6)}"
        self.group: ReplicatedServer | None = None
        self.primary: EmbeddedServer | None = None
        self.workers: list[Seat] = []
        self.edges: list[Seat] = []
        self.urls: list[str] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def seats(self) -> list[Seat]:
        return [*self.workers, *self.edges]

    @property
    def links(self) -> list[Proxy]:
        """Every way to Redis."""
        return [seat.link for seat in self.seats if seat.link is not None]

    @property
    def fronts(self) -> list[Proxy]:
        """Every way to an edge."""
        return [seat.front for seat in self.edges if seat.front is not None]

    def lead_to(self, server: EmbeddedServer) -> None:
        """From now on this one is Redis: every connection breaks, and new ones go there."""
        self.primary = server
        for link in self.links:
            link.lead_to(server.url)
            link.drop_all()

    # ---- building

    async def _build(self) -> None:
        if self.setting.logs is None:
            self._logs = Path(self._stack.enter_context(TemporaryDirectory(prefix="orbit-verify-")))
        else:
            self._logs = self.setting.logs
            self._logs.mkdir(parents=True, exist_ok=True)
        redis = await self._redis()
        for n in range(1, WORKERS + 1):
            options = ["--lease-s", str(LEASE_S), "--drain-s", str(DRAIN_S)]
            self.workers.append(await self._seat(f"worker {n}", ["worker", APP, *options], redis))
        for n in range(1, EDGES + 1):
            front = await self._stack.enter_async_context(Proxy(buffer_bytes=CLIENT_BUFFER_BYTES))
            self.urls.append(f"http://127.0.0.1:{front.port}")
            options = ["--host", "127.0.0.1", "--port", "0", "--drain-s", str(DRAIN_S), "--grace-s", str(GRACE_S)]
            self.edges.append(await self._seat(f"edge {n}", ["edge", *options], redis, front))
        self._stack.push_async_callback(self._stop)
        await asyncio.gather(*(seat.start() for seat in self.seats))

    async def _redis(self) -> str:
        if self.setting.redis is not None:
            # Checked before any process starts: what is wrong with it is said in one line.
            store = await Store.open(
                self.setting.redis,
                StoreSettings(
                    namespace=self.namespace, partitions=PARTITIONS, durability=self.setting.durability
                ),
            )
            self._stack.push_async_callback(_erase, store)
            return self.setting.redis
        self.group = ReplicatedServer(1 if self.setting.replica else 0)
        await self._stack.enter_async_context(self.group)
        self.primary = self.group.servers[0]
        return self.group.url

    async def _seat(self, name: str, arguments: list[str], redis: str, front: Proxy | None = None) -> Seat:
        link = None
        if proxied(self.setting.redis):
            link = await self._stack.enter_async_context(Proxy.before(redis))
            redis = _through(link, redis)
        log = (self._logs / f"{name.replace(' ', '-')}.log").open("a", buffering=1)
        self._stack.callback(log.close)
        emptied = {key: "" for key in os.environ if key.startswith("ORBIT_") and key != "ORBIT_TRACE"}  # as if unset
        env = {
            **emptied, "ORBIT_REDIS": redis, "ORBIT_NAMESPACE": self.namespace, "ORBIT_PARTITIONS": str(PARTITIONS),
            "ORBIT_LOG_FORMAT": "json",
        }  # fmt: skip
        if (durability := self.setting.durability) is not None:
            env |= {"ORBIT_DURABILITY": durability.kind, "ORBIT_REPLICAS": str(durability.replicas or "")}
        return Seat(name, arguments, env=env, hear=lambda line: print(line, file=log), link=link, front=front)

    async def _stop(self) -> None:
        for proxy in (*self.links, *self.fronts):
            proxy.heal()
        await asyncio.gather(*(seat.stop() for seat in self.seats))


def _through(link: Proxy, redis: str) -> str:
    """The same database with the same user, by way of the proxy."""
    parts = urlsplit(redis)
    user, at, _ = parts.netloc.rpartition("@")
    path = "/0" if parts.scheme == "unix" else parts.path
    return urlunsplit(("redis", f"{user}{at}127.0.0.1:{link.port}", path, parts.query, ""))


async def _erase(store: Store) -> None:
    try:
        await store.erase()
    finally:
        await store.close()
