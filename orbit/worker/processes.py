"""Processes for steps with `in_process`: work that needs a CPU for itself, and that can be ended at once.

Each is started when it is first needed, runs one function at a time, and is ended with it where that is given up. None
outlives its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from orbit.errors import OrbitError, UsageError
from orbit.state import CurrentStep, SyncCurrentStep, enter_step
from orbit.worker.outside import outside

_STOP_S = 1.0
_SPAWN = multiprocessing.get_context("spawn")

Send = Callable[[tuple[Any, ...]], Awaitable[None]]
"""Sends updates of the step."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run, for which step."""

    name: str
    key: str
    attempt: int
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class ProcessDied(OrbitError):
    """The process of a step ended before the step did."""


class Processes:
    """At most `size` processes. To be closed."""

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)
        self._idle: list[_Host] = []
        self._all: set[_Host] = set()

    async def run(self, job: Job, send: Send, timeout_s: float | None = None) -> Any:
        """What the job's function returns or raises.

        Args:
            timeout_s: How long it may take from its call on: without the start of a process, and its imports.

        Raises:
            UsageError: It can't be pickled, or what it returned can't.
            TimeoutError: It took too long.
            ProcessDied: Its process ended under it.

        Cancellation: its process is killed.
        """
        packed = _pickled(job)
        async with self._room:
            outside().begin()
            try:
                host = await self._take()
                try:
                    return await host.run(packed, job, send, timeout_s)
                finally:
                    self._give(host)
            finally:
                outside().end()

    async def close(self) -> None:
        """End all, also those that are busy; return when none is left."""
        for host in self._all:
            host.kill()
        outside().begin()
        try:
            await asyncio.gather(*(host.ended.wait() for host in self._all))
        finally:
            outside().end()
        self._all.clear()
        self._idle.clear()

    async def _take(self) -> _Host:
        while self._idle:
            host = self._idle.pop()
            if host.alive:
                return host
        self._all = {host for host in self._all if not host.ended.is_set()}
        host = _Host()
        self._all.add(host)
        starting = asyncio.ensure_future(asyncio.to_thread(host.start))
        starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(starting)
        except BaseException:  # it may be starting still: then it is ended as soon as it has
            host.kill()
            raise
        return host

    def _give(self, host: _Host) -> None:
        if host.alive and not host.busy:
            self._idle.append(host)
        else:
            host.kill()


class _Host:
    """One process, seen from the worker."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.busy = False
        self._unwanted = False
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()
        self._ours, theirs = _SPAWN.Pipe()
        self._theirs: Connection | None = theirs
        self._process = _SPAWN.Process(target=_serve, args=(theirs,), name="orbit step", daemon=True)
        self._reader = threading.Thread(target=self._read, name="orbit step reader", daemon=True)

    @property
    def alive(self) -> bool:
        return not self.ended.is_set() and self._process.is_alive()

    def start(self) -> None:
        """Blocks for a moment."""
        try:
            self._process.start()
        except BaseException:
            self._loop.call_soon_threadsafe(self.ended.set)
            raise
        assert self._theirs is not None
        self._theirs.close()  # else its end would not be noticed
        self._theirs = None
        self._reader.start()
        if self._unwanted:
            self._process.kill()

    def kill(self) -> None:
        """End it; one that is starting, as soon as it has."""
        self._unwanted = True
        if self._process.pid is not None:
            self._process.kill()

    async def run(self, packed: bytes, job: Job, send: Send, timeout_s: float | None) -> Any:
        self.busy = True
        with contextlib.suppress(OSError):  # it has died: that is read, too
            await asyncio.to_thread(self._ours.send_bytes, packed)
        async with asyncio.timeout(None) as limit:
            while (said := await self._said.get()) is not None:
                kind, value = said
                if kind == "begun":
                    limit.reschedule(None if timeout_s is None else self._loop.time() + timeout_s)
                elif kind == "update":
                    answer = await _sent(value, send)
                    with contextlib.suppress(OSError):
                        self._ours.send_bytes(pickle.dumps(answer))
                else:
                    self.busy = False
                    if kind == "raised":
                        raise value
                    return value
        raise ProcessDied(f"step {job.name!r}: its process ended with {self._process.exitcode}")

    def _read(self) -> None:
        """In a thread: what the process says, until it ends."""
        said: tuple[str, Any] | None
        while True:
            try:
                said = pickle.loads(self._ours.recv_bytes())
            except (EOFError, OSError):
                said = None
            except Exception as error:  # it was pickled there, and can't be made here
                said = "raised", UsageError(f"what an in_process step gave back can't be unpickled: {error}")
            if said is None:
                self._process.join(_STOP_S)
                self._ours.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker ends
                self._loop.call_soon_threadsafe(self._said.put_nowait, said)
                if said is None:
                    self._loop.call_soon_threadsafe(self.ended.set)
            if said is None:
                return


async def _sent(data: tuple[Any, ...], send: Send) -> Exception | None:
    """Send updates of a step whose process waits for us; what went wrong, which is the step's to handle."""
    outside().end()
    try:
        await send(data)
    except Exception as error:
        return error
    finally:
        outside().begin()
    return None


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job)
    except Exception as error:  # whatever a user's __reduce__ raises
        raise UsageError(
            f"step {job.name!r}: in_process takes a function of a module and arguments that can be pickled: {error}"
        ) from None


# ---- in the process


class _Step(CurrentStep, SyncCurrentStep):
    """The step that runs in this process."""

    def __init__(self, job: Job, line: Connection) -> None:
        self.name, self.key, self.attempt = job.name, job.key, job.attempt
        self.sync = self
        self._line = line

    def send_update(self, *data: Any) -> Any:
        self._line.send_bytes(pickle.dumps(("update", data)))
        answer = pickle.loads(self._line.recv_bytes())
        if answer is not None:
            raise answer


def _serve(line: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="orbit parent", daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            packed = line.recv_bytes()
            line.send_bytes(_answer(packed, line))


def _answer(packed: bytes, line: Connection) -> bytes:
    try:
        job: Job = pickle.loads(packed)
        line.send_bytes(pickle.dumps(("begun", None)))
        enter_step(_Step(job, line))
        result = job.fn(*job.args, **job.kwargs)
    except BaseException as error:
        return _raised(error)
    try:
        return pickle.dumps(("returned", result))
    except Exception as error:
        return _raised(UsageError(f"step {job.name!r}: its result can't be pickled: {error}"))


def _raised(error: BaseException) -> bytes:
    """The exception itself where it comes through whole, else what it says."""
    try:
        packed = pickle.dumps(("raised", error))
        pickle.loads(packed)
    except Exception:
        packed = pickle.dumps(("raised", RuntimeError(f"{type(error).__name__}: {error}")))
    return packed


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)
