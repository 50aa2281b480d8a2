"""One connection shared by many callers: all that they ask for in one turn of the loop goes out as one write.

Requests don't wait for the replies of those before them. Each caller has a future of its own, so one that is cancelled
disturbs nobody: what it asked is taken back if it wasn't sent, and its reply is dropped if it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from orbit.store import outcome
from orbit.store.address import Connect, open_connection, told_as_broken

MAX_SENT = 1_000
"""Requests under way on one connection; more wait their turn."""

_FAILURES = (redis_errors.RedisError, OSError, TimeoutError)


Command = tuple[str | bytes | int, ...]


@dataclass(slots=True, eq=False)
class Asked:
    """What was asked, and its reply in time.

    Attributes:
        since_s: When it was asked for, then when it was sent.
        connection: Over which of the pipe's connections it was sent, counted from 1; 0: not yet.
    """

    packed: bytes
    writes: bool
    reply: asyncio.Future[Any]
    since_s: float
    connection: int = 0


def _nothing() -> None:
    """Nobody wants to know."""


class Pipe:
    """A connection that opens when something is asked, and again after it broke. Nothing is ever sent twice.

    `on_again` is called whenever it was opened again: what it leads to may be another server, or one that went back.
    """

    def __init__(self, connect: Connect, timeout_s: float, on_again: Callable[[], None] = _nothing) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._on_again = on_again
        self._connections = 0
        self._queue: deque[Asked] = deque()
        self._sent: deque[Asked] = deque()
        self._asked = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._renewed = asyncio.Event()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Nothing that it was asked is unanswered."""
        return not self._queue and not self._sent

    async def ask(self, command: Command, *, writes: bool, asking: bool = False) -> Any:
        """Send a command and return its reply; an error reply is raised as redis-py's exception.

        Args:
            asking: Right after an ASKING, over the same connection; where that breaks in between, without one, which a
                node of a cluster answers with MOVED.

        Raises:
            Unavailable: It was not sent; or it only reads, and no answer came.
            OutcomeUnknown: It writes, was sent, and no answer came.

        Cancellation: as OutcomeUnknown.
        """
        return await self.send(command, writes=writes, asking=asking).reply

    def send(self, command: Command, *, writes: bool, asking: bool = False) -> Asked:
        """As `ask`, without waiting for the reply (or what `ask` raises). Sent in the order of calls."""
        if self._closed:
            raise outcome.not_sent(RuntimeError("the store is closed"))
        if asking:
            self.send(("ASKING",), writes=False).reply.add_done_callback(_heedless)
        loop = asyncio.get_running_loop()
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
        request = Asked(packed, writes, loop.create_future(), loop.time())
        self._queue.append(request)
        self._asked.set()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="orbit-store-pipe")
        return request

    def renew(self) -> None:
        """Leave the server that the connection leads to: what is asked from now on goes over another one."""
        self._renewed.set()

    async def close(self) -> None:
        """Close the connection; what is under way is answered as if the connection had broken."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                await self._asked.wait()
                connection = self._connect()
                try:
                    await open_connection(connection, self._timeout_s)
                except _FAILURES as error:
                    await connection.disconnect(nowait=True)
                    self._refuse(error)
                except asyncio.CancelledError:
                    await connection.disconnect(nowait=True)
                    raise
                else:
                    self._connections += 1
                    if self._connections > 1:
                        self._on_again()
                    self._renewed.clear()
                    await self._serve(connection)
        finally:
            self._closed = True
            self._refuse(None)

    async def _serve(self, connection: AbstractConnection) -> None:
        """Until the connection breaks. What was sent and not answered by then has an unknown outcome."""
        work = (self._write(connection), self._read(connection), self._watch(), self._renewed.wait())
        jobs: list[asyncio.Future[Any]] = [asyncio.ensure_future(job) for job in work]
        cause: BaseException | None = None
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            cause = next(iter(done)).exception()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await connection.disconnect(nowait=True)
            while self._sent:
                request = self._sent.popleft()
                _fail(request, outcome.unanswered(cause, writes=request.writes))
        if cause is not None and not isinstance(cause, _FAILURES):
            raise cause

    async def _write(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._asked.wait()
            if self._renewed.is_set():
                return
            while len(self._sent) >= MAX_SENT:
                self._room.clear()
                await self._room.wait()
            batch = []
            while self._queue and len(self._sent) < MAX_SENT:
                request = self._queue.popleft()
                if not request.reply.done():
                    request.since_s, request.connection = loop.time(), self._connections
                    self._sent.append(request)
                    batch.append(request.packed)
            if not self._queue:
                self._asked.clear()
            if batch:
                with told_as_broken():
                    await connection.send_packed_command(batch, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply: Any
            try:
                reply = await connection.read_response(disconnect_on_error=False)
            except (redis_errors.ResponseError, redis_errors.BusyLoadingError) as error:
                reply = error
            if not self._sent:
                raise redis_errors.ConnectionError("a reply that nobody asked for")
            request = self._sent.popleft()
            self._room.set()
            if isinstance(reply, Exception):
                _fail(request, reply)
            elif not request.reply.done():
                request.reply.set_result(reply)

    async def _watch(self) -> None:
        """Ends the connection when the oldest request isn't answered in time.

        One that is late is given another moment: after the loop was blocked, its reply may lie in the socket, unread.
        """
        loop = asyncio.get_running_loop()
        while True:
            late = self._sent[0] if self._sent and loop.time() - self._sent[0].since_s >= self._timeout_s else None
            await asyncio.sleep(self._timeout_s / 4)
            if late is not None and self._sent and self._sent[0] is late:
                raise TimeoutError(f"no answer in {self._timeout_s:g} s")
            while self._queue and loop.time() - self._queue[0].since_s > self._timeout_s:
                _fail(self._queue.popleft(), outcome.not_sent(TimeoutError("too many requests before this one")))

    def _refuse(self, cause: BaseException | None) -> None:
        self._asked.clear()
        while self._queue:
            _fail(self._queue.popleft(), outcome.not_sent(cause))


def _heedless(reply: asyncio.Future[Any]) -> None:
    """Nobody waits for it."""
    if not reply.cancelled():
        reply.exception()


def _fail(request: Asked, error: Exception) -> None:
    if not request.reply.done():
        request.reply.set_exception(error)
