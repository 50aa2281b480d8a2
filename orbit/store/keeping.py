"""Acknowledgements that wait: what was written over one connection counts once the server says that it is kept.

WAIT and WAITAOF cover the last write of their own connection, so they go over the connection that wrote. One wait at
a time acknowledges all that went out before it, while the next ones gather; in front of each stands a small write of
its own, the *mark*. So it covers also what was only found to be done (a repeated commit, a duplicate message, a start
that exists): whatever a script saw on this server was written before the mark.

A wait holds up what the connection sends after it, on the server; what needn't be acknowledged goes another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis import exceptions as redis_errors

from orbit.errors import OrbitError, OutcomeUnknown
from orbit.store.durability import Durability
from orbit.store.pipe import Command, Pipe

WAIT_SHARE = 0.4
"""Of a command's time-out is a wait's: so what is sent behind one is answered in time, whatever the replicas do."""


class _Round:
    """One wait, and those who wait for it. `outcome`: over which connection it went, and why it keeps nothing."""

    def __init__(self, mark: Command) -> None:
        self.mark = mark
        self.outcome: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()


class Keeping:
    """What is asked over one pipe, answered once it is kept. The pipe is closed with this."""

    def __init__(self, pipe: Pipe, durability: Durability, timeout_s: float) -> None:
        self._pipe = pipe
        self._durability = durability
        self._timeout_ms = max(1, int(timeout_s * 1000 * WAIT_SHARE))
        self._next: _Round | None = None
        self._task: asyncio.Task[None] | None = None

    async def ask(self, command: Command, mark: Command, acknowledges: Callable[[Any], bool]) -> Any:
        """Send a command and return its reply: at once where it acknowledges nothing, else once it is kept.

        Args:
            mark: A write that the same server takes.

        Raises:
            Unavailable, and redis-py's errors: As `Pipe.ask`.
            OutcomeUnknown: No answer came, or it wasn't kept in time: it may last or not. The same again finds out.

        Cancellation: as OutcomeUnknown.
        """
        awaited = self._join(mark)  # first, so that the wait goes out in the same write as the command
        asked = self._pipe.send(command, writes=True)
        reply = await asked.reply
        if not acknowledges(reply):
            return reply
        connection, missing = await asyncio.shield(awaited.outcome)
        if not missing and connection != asked.connection:
            missing = "the connection broke before it was kept"
        if missing:
            raise OutcomeUnknown(f"Redis did it, but {missing}: it may last or not")
        return reply

    async def close(self) -> None:
        """Close the pipe; who waits is answered as if the connection had broken."""
        await self._pipe.close()
        if self._task is not None:
            await asyncio.wait((self._task,))

    def _join(self, mark: Command) -> _Round:
        """The round that covers what is sent now: the one after the wait that is under way."""
        if self._next is None:
            self._next = _Round(mark)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="orbit-store-keeping")
        return self._next

    async def _run(self) -> None:
        """Wait, one round after the other, until nobody joined the next. A pass of the loop lies before the first."""
        outcome = (0, "a defect of Orbit's")
        try:
            while (one := self._next) is not None:
                self._next = None
                try:
                    outcome = await self._wait(one.mark)
                finally:
                    one.outcome.set_result(outcome)
        finally:
            self._task = None

    async def _wait(self, mark: Command) -> tuple[int, str]:
        wait = self._durability.commands(self._timeout_ms)
        try:
            asked = [self._pipe.send(command, writes=True) for command in (mark, *wait)]
        except OrbitError as error:
            return 0, _line(error)
        answers = await asyncio.gather(*(one.reply for one in asked), return_exceptions=True)
        connection = asked[-1].connection  # known by now
        for answer in answers:
            if isinstance(answer, OrbitError | redis_errors.RedisError):
                return connection, _line(answer)
            if isinstance(answer, BaseException):
                raise answer
        if any(one.connection != connection for one in asked):
            return connection, "the connection broke before it was kept"
        return connection, self._durability.missing(answers[-1])


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


