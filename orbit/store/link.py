"""The way to Redis: scripts and a few plain commands, each to the server that has their key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from orbit.errors import OutcomeUnknown, Unavailable
from orbit.store.address import Connect
from orbit.store.durability import ACKNOWLEDGES, Durability
from orbit.store.keys import mark
from orbit.store.outcome import refusal
from orbit.store.pipe import Command
from orbit.store.script import Script
from orbit.store.topology import Node, Patience, Single, Topology

Argument = str | bytes | int
Acknowledges = Callable[[Any], bool]
"""Whether a reply is an acknowledgement: then it waits until what it says is kept."""

_LOOKED_AT = 100_000
"""So many keys find one at each server, even at one that has a single slot."""
_WITHOUT_KEY = frozenset(
    {"PING", "TIME", "HELLO", "INFO", "CLIENT", "CONFIG", "KEYS", "ACL", "SCRIPT", "WAIT", "WAITAOF"}
)


class _How(NamedTuple):
    """How a command goes: to whom, and over which connection."""

    key: str | None
    writes: bool
    acknowledges: Acknowledges | None = None


class Link:
    """Runs scripts. Nothing is sent twice but what a server says that it didn't do (NOSCRIPT, MOVED and the like)."""

    def __init__(self, to: Connect | Topology, timeout_s: float) -> None:
        """`to`: connections to the one server, or the servers and who of them holds what."""
        self.topology = to if isinstance(to, Topology) else Single(to, timeout_s)
        self.timeout_s = timeout_s

    @property
    def on_again(self) -> Callable[[], None]:
        """Called whenever a connection was made again: Redis may be another one, or have gone back in time."""
        return self.topology.on_again

    @on_again.setter
    def on_again(self, call: Callable[[], None]) -> None:
        self.topology.on_again = call

    async def new_connection(self, at: str) -> AbstractConnection:
        """A connection of its own to the server that has this key, not open yet. Raises as `run`."""
        return (self.topology.known(at) or await self.topology.find(at)).connect()

    async def one_each(self, keys: Callable[[int], str]) -> tuple[str, ...]:
        """For each server a key that it has, out of `keys(0)`, `keys(1)` and so on. Raises as `run`."""
        missing = set(await self.topology.nodes())
        found = []
        for n in range(_LOOKED_AT):
            node = self.topology.known(keys(n))
            if node in missing:
                missing.discard(node)
                found.append(keys(n))
            if not missing:
                break
        return tuple(found)

    async def keep(self, durability: Durability) -> None:
        """From now on what is acknowledged waits for this. To be said while nothing is under way."""
        await self.topology.keep(durability)

    async def run(self, script: Script, keys: Iterable[str], *arguments: Argument) -> Any:
        """Run a script; its raw reply.

        Raises:
            Unavailable: Certainly nothing was written.
            Overloaded: Redis is full; nothing was written.
            OutcomeUnknown: It was sent and no answer came, or it wasn't kept in time as the durability says.

        Cancellation: as OutcomeUnknown, for a script that writes.
        """
        keys = self.topology.declared(tuple(keys))
        rest = (len(keys), *keys, *arguments)
        by_sha, in_full = ("EVALSHA", script.sha, *rest), ("EVAL", script.source, *rest)
        how = _How(keys[0], script.writes, ACKNOWLEDGES.get(script.name))
        return await self._ask(how, by_sha, in_full)

    async def keep_read(self, key: str, *command: Argument) -> Any:
        """Run a plain command that only reads, on this key. Where acknowledgements wait: what it says is kept, too.

        Raises:
            OutcomeUnknown: It wasn't kept in time.
        """
        return await self._ask(_How(key, False, lambda reply: True), command)

    async def read(self, *command: Argument, at: str | None = None) -> Any:
        """Run a plain command that only reads. `at`: at the server that has this key, where the command names none."""
        return await self._ask(_How(at or _key_of(command), False), command)

    async def write(self, *command: Argument, at: str | None = None) -> Any:
        """Run a plain command that does something; `at` as in `read`."""
        return await self._ask(_How(at or _key_of(command), True), command)

    async def _ask(self, how: _How, command: Command, in_full: Command | None = None) -> Any:
        """`in_full`: what to send instead where the server doesn't know the script."""
        node = self.topology.known(how.key) or await self.topology.find(how.key)
        patience: Patience | None = None
        asking = False
        while True:
            try:
                return await self._ask_at(node, how, command, asking=asking)
            except redis_errors.NoScriptError as error:
                if in_full is None:
                    raise refusal(error) from error
                command, in_full = in_full, None
            except redis_errors.RedisError as error:
                patience = patience or Patience(self.timeout_s)
                node, asking = await self.topology.again(error, node, how.key, patience)

    async def _ask_at(self, node: Node, how: _How, command: Command, *, asking: bool) -> Any:
        try:
            # A partition's scripts are never sent by ASK (their guard sees to that), and they alone acknowledge.
            if how.acknowledges is not None and node.keeping is not None and how.key is not None and not asking:
                return await node.keeping.ask(command, mark(how.key), how.acknowledges)
            pipe = node.writing if how.writes else node.reading
            return await pipe.ask(command, writes=how.writes, asking=asking)
        except (Unavailable, OutcomeUnknown):
            self.topology.suspect(node)
            raise

    async def close(self) -> None:
        await self.topology.close()


def _key_of(command: Command) -> str | None:
    """Every command that the store uses names one key, first; but for those that ask of the server itself."""
    return None if command[0] in _WITHOUT_KEY else str(command[1])
