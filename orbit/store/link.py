"""The way to Redis: scripts and a few plain commands, over two shared connections.

One connection carries what writes, the other what only reads, so that a long page of a log holds up no commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from orbit.store.address import Connect
from orbit.store.outcome import refusal
from orbit.store.pipe import Pipe
from orbit.store.script import Script

Argument = str | bytes | int


class Link:
    """Runs scripts. Nothing is sent twice but what the server says that it didn't do (NOSCRIPT)."""

    def __init__(self, connect: Connect, timeout_s: float) -> None:
        self._connect = connect
        self.timeout_s = timeout_s
        self._writing = Pipe(connect, timeout_s)
        self._reading = Pipe(connect, timeout_s)

    def new_connection(self) -> AbstractConnection:
        """A connection of its own, not open yet (for subscriptions)."""
        return self._connect()

    async def run(self, script: Script, keys: Iterable[str], *arguments: Argument) -> Any:
        """Run a script; its raw reply.

        Raises:
            Unavailable: Certainly nothing was written.
            Overloaded: Redis is full; nothing was written.
            OutcomeUnknown: It was sent and no answer came.

        Cancellation: as OutcomeUnknown, for a script that writes.
        """
        keys = tuple(keys)
        rest = (len(keys), *keys, *arguments)
        pipe = self._writing if script.writes else self._reading
        try:
            try:
                return await pipe.ask(("EVALSHA", script.sha, *rest), writes=script.writes)
            except redis_errors.NoScriptError:
                return await pipe.ask(("EVAL", script.source, *rest), writes=script.writes)
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
