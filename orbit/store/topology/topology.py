"""What every form of Redis answers: which server has a key, and what to do about a reply that says "not here"."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from orbit.store.address import Connect
from orbit.store.durability import MEMORY, Durability
from orbit.store.outcome import code_of, refusal
from orbit.store.topology.node import Node
from orbit.store.topology.patience import Patience


class Topology(ABC):
    """Which server holds what, as far as is known."""

    sharded = False
    """Whether a command, or a subscription, may name keys of one slot only."""

    def __init__(self, timeout_s: float) -> None:
        """timeout_s: how long a connection, or a command, may take."""
        self.timeout_s = timeout_s
        self.listeners: set[Callable[[], None]] = set()
        """Called when another server may hold something."""
        self.on_again: Callable[[], None] = _nothing
        """Called whenever a connection was made again, or another server has something: Redis may have gone back."""
        self._durability = MEMORY

    @abstractmethod
    def known(self, key: str | None) -> Node | None:
        """The server that has `key` (None: any server), if that is known."""

    @abstractmethod
    async def find(self, key: str | None) -> Node:
        """That server, asked for if need be.

        Raises:
            Unavailable: Nobody says.
        """

    @abstractmethod
    async def nodes(self) -> tuple[Node, ...]:
        """All servers that hold something. Raises as `find`."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections; what is under way is answered as if they had broken."""

    async def keep(self, durability: Durability) -> None:
        """From now on what is acknowledged waits for this. To be said while nothing is under way."""
        self._durability = durability
        await asyncio.gather(*(node.keep(durability) for node in self._open_nodes()))

    @abstractmethod
    def _open_nodes(self) -> Iterable[Node]:
        """All that there may be connections to."""

    def _new_node(self, name: str, connect: Connect) -> Node:
        node = Node(name, connect, self.timeout_s, lambda: self.on_again())
        node.begin_to_keep(self._durability)
        return node

    def declared(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """What a script that touches `keys` says that it touches."""
        return keys

    async def again(self, error: Exception, node: Node, key: str | None, patience: Patience) -> tuple[Node, bool]:
        """Where a command goes that `node` answered with `error`, and whether as one that was sent there by ASK.

        Raises:
            OrbitError: Nowhere: what the error means.
        """
        raise refusal(error) from error

    def learn(self, error: Exception, node: Node) -> bool:
        """Take note of what `node` answered, where that says who else holds something; whether it does."""
        return False

    @abstractmethod
    def suspect(self, node: Node) -> None:
        """A connection to it broke, or couldn't be made."""

    @abstractmethod
    def refresh(self) -> None:
        """Begin to learn anew who holds what; where nobody says, what is known stays."""

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()


class Single(Topology):
    """One server, always the same."""

    def __init__(self, connect: Connect, timeout_s: float, name: str = "the server") -> None:
        super().__init__(timeout_s)
        self._node = self._new_node(name, connect)

    def known(self, key: str | None) -> Node | None:
        return self._node

    async def find(self, key: str | None) -> Node:
        return self._node

    async def nodes(self) -> tuple[Node, ...]:
        return (self._node,)

    async def again(self, error: Exception, node: Node, key: str | None, patience: Patience) -> tuple[Node, bool]:
        if code_of(error) == "READONLY":
            node.renew()  # its name may lead to the primary of now: this server was it once
        return await super().again(error, node, key, patience)

    def suspect(self, node: Node) -> None:
        """It comes back at the same place, or not at all."""

    def refresh(self) -> None:
        """There is nothing to learn."""

    async def close(self) -> None:
        await self._node.close()

    def _open_nodes(self) -> Iterable[Node]:
        return (self._node,)


def _nothing() -> None:
    """Nobody wants to know."""
