"""The way to Redis: scripts and a few plain commands, over a few shared connections.

One connection carries what writes, another what only reads, so that a long page of a log holds up no commit. Where
acknowledgements wait, what is acknowledged goes over a third, which the waits hold up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from orbit.store.address import Connect
from orbit.store.durability import ACKNOWLEDGES, Durability
from orbit.store.keeping import Keeping
from orbit.store.keys import mark
from orbit.store.outcome import refusal
from orbit.store.pipe import Command, Pipe
from orbit.store.script import Script

Argument = str | bytes | int


class Link:
    """Runs scripts. Nothing is sent twice but what the server says that it didn't do (NOSCRIPT).

    Attributes:
        on_again: Called whenever a connection was made again: Redis may be another one, or have gone back in time.
    """

    def __init__(self, connect: Connect, timeout_s: float) -> None:
        self._connect = connect
        self.timeout_s = timeout_s
        self.on_again: Callable[[], None] = _nothing
        self._writing = self._pipe()
        self._reading = self._pipe()
        self._keeping: Keeping | None = None

    async def keep(self, durability: Durability) -> None:
        """From now on what is acknowledged waits for this. To be said while nothing is under way."""
        if self._keeping is not None:
            await self._keeping.close()
        self._keeping = Keeping(self._pipe(), durability, self.timeout_s) if durability.waits else None

    def _pipe(self) -> Pipe:
        return Pipe(self._connect, self.timeout_s, lambda: self.on_again())

    def new_connection(self) -> AbstractConnection:
        """A connection of its own, not open yet (for subscriptions)."""
        return self._connect()

    async def run(self, script: Script, keys: Iterable[str], *arguments: Argument) -> Any:
        """Run a script; its raw reply.

        Raises:
            Unavailable: Certainly nothing was written.
            Overloaded: Redis is full; nothing was written.
            OutcomeUnknown: It was sent and no answer came, or it wasn't kept in time as the durability says.

        Cancellation: as OutcomeUnknown, for a script that writes.
        """
        keys = tuple(keys)
        rest = (len(keys), *keys, *arguments)
        try:
            try:
                return await self._ask(script, keys, ("EVALSHA", script.sha, *rest))
            except redis_errors.NoScriptError:
                return await self._ask(script, keys, ("EVAL", script.source, *rest))
        except redis_errors.RedisError as error:
            raise refusal(error) from error

    async def _ask(self, script: Script, keys: Sequence[str], command: Command) -> Any:
        acknowledges = ACKNOWLEDGES.get(script.name)
        if acknowledges is not None and self._keeping is not None:
            return await self._keeping.ask(command, mark(keys[0]), acknowledges)
        pipe = self._writing if script.writes else self._reading
        return await pipe.ask(command, writes=script.writes)

    async def keep_read(self, key: str, *command: Argument) -> Any:
        """Run a plain command that only reads, on this key. Where acknowledgements wait: what it says is kept, too.

        Raises:
            OutcomeUnknown: It wasn't kept in time.
        """
        if self._keeping is None:
            return await self.read(*command)
        try:
            return await self._keeping.ask(command, mark(key), lambda reply: True)
        except redis_errors.RedisError as error:
            raise refusal(error) from error

    async def read(self, *command: Argument) -> Any:
        """Run a plain command that only reads."""
        return await self._plain(self._reading, command, writes=False)

    async def write(self, *command: Argument) -> Any:
        """Run a plain command that does something."""
        return await self._plain(self._writing, command, writes=True)

    async def _plain(self, pipe: Pipe, command: tuple[Argument, ...], *, writes: bool) -> Any:
        try:
            return await pipe.ask(command, writes=writes)
        except redis_errors.RedisError as error:
            raise refusal(error) from error

    async def close(self) -> None:
        await self._writing.close()
        await self._reading.close()
        if self._keeping is not None:
            await self._keeping.close()


def _nothing() -> None:
    """Nobody wants to know."""
