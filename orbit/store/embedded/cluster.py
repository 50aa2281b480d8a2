"""A cluster: primaries that share the slots, each with its replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orbit.errors import StoreUnusable
from orbit.store.embedded.group import QUICK, Group, follows, role_of, until
from orbit.store.embedded.server import EmbeddedServer, free_port
from orbit.store.keys import SLOTS

_MOVED_AT_ONCE = 20


class _Node(EmbeddedServer):
    """A server with a port more, for the cluster's own talk."""

    def __init__(self, config: Mapping[str, str], program: Path | None) -> None:
        super().__init__(tcp=True, config=config, program=program)
        self.bus = 0

    def _take_ports(self) -> None:
        super()._take_ports()
        self.bus = free_port()

    def _lines(self) -> dict[str, str]:
        return {**super()._lines(), "cluster-enabled": "yes", "cluster-port": str(self.bus)}


class EmbeddedCluster(Group):
    """`servers`: first the primaries, in the order of their slots, then their replicas in the same order, again and
    again. After a failover ask `primaries` and `primary_of`."""

    def __init__(
        self, primaries: int = 3, replicas: int = 1, *, node_timeout_ms: int = 2_000,
        config: Mapping[str, str] | None = None, program: Path | None = None,
    ) -> None:  # fmt: skip
        """node_timeout_ms: how long a node is silent before it is taken for dead."""
        super().__init__()
        own = {
            "cluster-node-timeout": str(node_timeout_ms), "cluster-replica-validity-factor": "0",
            "cluster-allow-replica-migration": "no",
        }  # fmt: skip
        self._config = {**QUICK, **own, **(config or {})}
        self._program = program
        self._primaries = primaries
        self._replicas = replicas

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    # ---- who holds what

    async def id_of(self, server: EmbeddedServer) -> str:
        """The name of a node."""
        return str((await server.command("CLUSTER", "MYID")).decode())

    async def primary_of(self, slot: int) -> EmbeddedServer:
        """The node that holds a slot, as most of those that run see it."""
        votes: dict[int, int] = {}
        for server in self.servers:
            if server.running:
                for first, last, (_, port, *_), *_ in await server.command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        votes[port] = votes.get(port, 0) + 1
        port = max(votes, key=lambda one: votes[one], default=0)
        for server in self.servers:
            if server.port == port:
                return server
        raise StoreUnusable(f"nobody holds slot {slot}")

    async def whole(self) -> None:
        """Return when all nodes that run agree that the cluster is whole: all slots held, by nodes that run."""

        async def agreed() -> bool:
            maps = set()
            running = {server.port for server in self.servers if server.running}
            for server in self.servers:
                if server.running:
                    said = (await server.command("CLUSTER", "INFO")).decode()
                    if "cluster_state:ok" not in said:
                        return False
                    slots = await server.command("CLUSTER", "SLOTS")
                    maps.add(tuple(sorted((first, last, node[1]) for first, last, node, *_ in slots)))
            held = {port for _, _, port in next(iter(maps))}
            return len(maps) == 1 and held <= running

        await until("the cluster's agreement", agreed)

    # ---- making things happen

    async def promote(self, replica: EmbeddedServer) -> None:
        """It takes over from its primary at once, with what it has; the other follows it, and loses what it hasn't."""
        await replica.command("CLUSTER", "FAILOVER", "TAKEOVER")

        async def leads() -> bool:
            return await role_of(replica) == "master"

        await until("a takeover", leads)
        await replica.command("CONFIG", "SET", "masterauth", "")
        await self.whole()

    async def begin_move(self, slot: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Open a slot, as `redis-cli --cluster reshard` does: from now on its keys are to move."""
        await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", await self.id_of(source))
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", await self.id_of(target))

    async def move_keys(
        self, slot: int, source: EmbeddedServer, target: EmbeddedServer, most: int | None = None
    ) -> int:
        """Move keys of an open slot, all or at most so many; how many are left."""
        moved = 0
        while most is None or moved < most:
            count = _MOVED_AT_ONCE if most is None else min(_MOVED_AT_ONCE, most - moved)
            keys = await source.command("CLUSTER", "GETKEYSINSLOT", slot, count)
            if not keys:
                break
            await source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            moved += len(keys)
        return int(await source.command("CLUSTER", "COUNTKEYSINSLOT", slot))

    async def end_move(self, slot: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Close a slot at its new place, first there, then where it was, then at the others."""
        name = await self.id_of(target)
        for server in (target, source, *(await self.primaries())):
            await server.command("CLUSTER", "SETSLOT", slot, "NODE", name)

    async def move_slots(self, slots: Iterable[int], source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Move slots key by key, as `redis-cli --cluster reshard` does."""
        for slot in slots:
            await self.begin_move(slot, source, target)
            await self.move_keys(slot, source, target)
            await self.end_move(slot, source, target)

    async def move_at_once(self, first: int, last: int, source: EmbeddedServer, target: EmbeddedServer) -> None:
        """Move a range of slots whole, as only Valkey 9 can."""
        await source.command(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", await self.id_of(target)
        )

        async def moved() -> bool:
            return all([await self.primary_of(slot) is target for slot in (first, last)])

        await until("the slots' move", moved)

    # ---- inside

    async def _start(self) -> None:
        count = self._primaries * (1 + self._replicas)
        self.servers = [_Node(self._config, self._program) for _ in range(count)]
        await asyncio.gather(*(server.start() for server in self.servers))
        await self._share_slots()
        for server in self.servers:
            await self._meet(server)
        await until("the nodes' meeting", self._all_met)
        for place, server in enumerate(self.servers[self._primaries :]):
            await server.command("CLUSTER", "REPLICATE", await self.id_of(self.servers[place % self._primaries]))
        for server in self.servers[self._primaries :]:
            await until("a replica's first copy", lambda server=server: follows(server))  # type: ignore[misc]
        await until("the replicas' being known", self._replicas_known)
        await self.whole()

    async def _share_slots(self) -> None:
        bounds = [SLOTS * place // self._primaries for place in range(self._primaries + 1)]
        for place, server in enumerate(self.servers):
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
            if place < self._primaries:
                await server.command("CLUSTER", "ADDSLOTSRANGE", bounds[place], bounds[place + 1] - 1)

    async def _meet(self, server: EmbeddedServer) -> None:
        for other in self.servers:
            if other is not server:
                assert isinstance(other, _Node)
                await server.command("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)

    async def _nodes(self, server: EmbeddedServer) -> list[list[str]]:
        raw: Any = await server.command("CLUSTER", "NODES")
        return [line.split() for line in raw.decode().splitlines()]

    async def _all_met(self) -> bool:
        for server in self.servers:
            nodes = await self._nodes(server)
            if len(nodes) != len(self.servers) or any("handshake" in fields[2] for fields in nodes):
                return False
        return True

    async def _replicas_known(self) -> bool:
        for server in self.servers:
            nodes = await self._nodes(server)
            if sum("slave" in fields[2] for fields in nodes) != self._primaries * self._replicas:
                return False
        return True
