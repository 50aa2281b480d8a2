"""A cluster: each slot's holder, learned from any node, corrected by what the nodes answer.

Nothing is sent twice but what a node said that it didn't do: MOVED and ASK are answered before a command does anything,
and so are TRYAGAIN and CLUSTERDOWN. While a slot is moved key by key, its scripts wait: see
docs/decisions/a-guard-key-in-clusters.md.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from redis import exceptions as redis_errors

from orbit.errors import OrbitError, StoreUnusable, Unavailable
from orbit.store.address import Address, Server, open_connection, say
from orbit.store.keys import guard_of, slot_of_key
from orbit.store.outcome import RETRY_MS, not_sent, refusal
from orbit.store.topology.node import Node
from orbit.store.topology.patience import Patience
from orbit.store.topology.redirects import Ask, Later, Moved, redirect_of
from orbit.store.topology.slots import Range, SlotMap, ranges_of
from orbit.store.topology.topology import Topology

_ASK_S = 1.0
"""How long one node may take to say who holds what; then another is asked."""
_LEAST_S = 0.1
"""Between two looks."""


class Cluster(Topology):
    """A node for each server that holds slots."""

    sharded = True

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._address = address
        self._nodes: dict[Server, Node] = {}
        self._left: set[asyncio.Task[None]] = set()
        self._slots = SlotMap()
        self._looking: asyncio.Task[None] | None = None
        self._looked_s = -_LEAST_S

    # ---- who has what

    def declared(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        guard = guard_of(keys[0])
        return keys if guard is None else (*keys, guard)

    def known(self, key: str | None) -> Node | None:
        server = self._slots.any() if key is None else self._slots.holder(slot_of_key(key))
        return None if server is None else self._node(server)

    async def find(self, key: str | None) -> Node:
        node = self.known(key)
        if node is None:
            await self._look_soon()
            node = self.known(key)
        if node is None:
            raise Unavailable("no node of the cluster holds what is asked for", retry_after_ms=RETRY_MS)
        return node

    async def nodes(self) -> tuple[Node, ...]:
        if not self._slots.servers:
            await self._look_soon()
        return tuple(map(self._node, self._slots.servers))

    async def again(self, error: Exception, node: Node, key: str | None, patience: Patience) -> tuple[Node, bool]:
        match redirect_of(error):
            case Moved(_, server):
                await patience.follow(error)
                self.learn(error, node)
                return self._node(self._whole(server, node)), False
            case Ask(_, server):
                await patience.follow(error)
                return self._node(self._whole(server, node)), True
            case Later():
                self._look_at_ease()
                await patience.pause(error)
                return await self.find(key), False
        raise refusal(error) from error

    def learn(self, error: Exception, node: Node) -> bool:
        said = redirect_of(error)
        if not isinstance(said, Moved):
            return False
        if self._slots.move(said.slot, self._whole(said.server, node)):
            self._look_at_ease()
            self._tell()
            self.on_again()
        return True

    def suspect(self, node: Node) -> None:
        self._look_at_ease()

    def refresh(self) -> None:
        self._look_at_ease()

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._nodes.values()), *self._left)

    def _open_nodes(self) -> Iterable[Node]:
        return tuple(self._nodes.values())

    def _node(self, server: Server) -> Node:
        node = self._nodes.get(server)
        if node is None:
            connect = self._address.to(server, self.timeout_s)
            node = self._nodes[server] = self._new_node(str(server), connect)
        return node

    def _whole(self, server: Server, answered: Node) -> Server:
        """A reply that names no host means that of the node which answered."""
        if server.host:
            return server
        host = next(one.host for one, node in self._nodes.items() if node is answered)
        return Server(host, server.port)

    # ---- looking

    def _look_at_ease(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="orbit-store-cluster")
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _look_soon(self) -> None:
        """Look, or wait for the look that is under way. Raises what that met."""
        self._look_at_ease()
        assert self._looking is not None
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked_s + _LEAST_S - loop.time()))
        try:
            changed = self._slots.replace(await self._ask_some())
        finally:
            self._looked_s = loop.time()
        self._part_from_others()
        if changed:
            self._tell()
            self.on_again()

    async def _ask_some(self) -> list[Range]:
        """What the first node says that takes the cluster for whole. The others may not know yet what changed."""
        known = list(self._slots.servers)
        random.shuffle(known)
        met: OrbitError | None = None  # what is wrong for good says more than that another node is away
        for server in dict.fromkeys((*known, *self._address.hosts)):
            try:
                return await self._ask(server)
            except OrbitError as error:
                if met is None or isinstance(error, StoreUnusable):
                    met = error
        assert met is not None
        raise met

    async def _ask(self, server: Server) -> list[Range]:
        connection = self._address.to(server, self.timeout_s)()
        try:
            async with asyncio.timeout(min(_ASK_S, self.timeout_s)):
                await open_connection(connection, self.timeout_s)
                await say(connection, "CLUSTER", "INFO")
                said: bytes = await connection.read_response()
                await say(connection, "CLUSTER", "SLOTS")
                ranges = ranges_of(await connection.read_response(), server)
        except redis_errors.ResponseError as error:
            if "cluster support disabled" in str(error):
                raise StoreUnusable(
                    f"the server at {server} isn't part of a cluster: give its address as redis://{server}"
                ) from error
            raise refusal(error) from error
        except (redis_errors.RedisError, OSError, TimeoutError) as error:
            raise not_sent(error) from error
        finally:
            await connection.disconnect(nowait=True)
        if b"cluster_state:ok" not in said:
            raise Unavailable(f"the cluster isn't whole, as the node at {server} sees it", retry_after_ms=RETRY_MS)
        return ranges

    def _part_from_others(self) -> None:
        """Close what leads to servers that hold nothing any more, once nothing is under way there."""
        held = set(self._slots.servers)
        for server in [server for server, node in self._nodes.items() if server not in held and node.idle]:
            task = asyncio.get_running_loop().create_task(self._nodes.pop(server).close())
            self._left.add(task)
            task.add_done_callback(self._left.discard)
