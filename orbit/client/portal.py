"""`Portal`: an event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from orbit.errors import UsageError

_T = TypeVar("_T")
_START_S = 30.0
_FAREWELL_S = 3.0


class Portal:
    """Runs coroutines in a daemon thread and hands their results back. Safe to call from many threads.

    It serves the process that made it: in a forked child it refuses, since its thread isn't there.

    Args:
        farewell: What the loop does last, once all calls have been cancelled.
    """

    def __init__(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _need_real_threads()
        self._farewell = farewell
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._closed = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._sources: set[AsyncGenerator[Any]] = set()
        self._leaving = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="orbit portal", daemon=True)
        self._thread.start()
        if not self._up.wait(_START_S) or self._loop is None:
            raise UsageError("the thread of the SyncBroker didn't start")

    # ---- from the callers' threads

    def call(self, verb: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What `verb` returns or raises. An interrupt (a signal's exception) cancels it.

        Raises:
            UsageError: This thread runs an event loop, or the portal was closed or is another process's.
        """
        refuse_in_a_loop()
        future = self._submit(verb)
        try:
            return future.result()
        except CancelledError:
            raise UsageError("the SyncBroker was closed meanwhile") from None
        finally:
            future.cancel()

    def iterate(self, stream: Callable[[], AsyncGenerator[_T]]) -> Generator[_T]:
        """The items of an async generator. It is closed when this generator is, also by being forgotten."""
        source = stream()
        turns = asyncio.Lock()  # closing waits for an item whose wait was interrupted

        async def item() -> tuple[_T] | None:
            async with turns:
                self._sources.add(source)
                try:
                    return (await anext(source),)
                except StopAsyncIteration:
                    return None

        async def close() -> None:
            async with turns:
                await source.aclose()
                self._sources.discard(source)

        try:
            while (found := self.call(item)) is not None:
                yield found[0]
        finally:
            # Without waiting: the collector may run this in any thread, the portal's own included.
            with suppress(UsageError):
                self._submit(close)

    def stop(self) -> None:
        """Cancel what runs, do the farewell, end the thread. Waits a few seconds at most; safe to repeat."""
        if self._pid != os.getpid():
            return
        with self._gate:
            if not self._closed and self._loop is not None:
                self._loop.call_soon_threadsafe(self._leaving.set)
            self._closed = True
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * _FAREWELL_S)

    def _submit(self, verb: Callable[[], Coroutine[Any, Any, _T]]) -> Future[_T]:
        if self._pid != os.getpid():
            raise UsageError("this iterator began before the fork: begin a new one, after the last cursor")
        with self._gate:
            if self._closed or self._loop is None:
                raise UsageError("the SyncBroker was closed meanwhile")
            return asyncio.run_coroutine_threadsafe(self._tracked(verb), self._loop)

    # ---- in the portal's thread

    def _work(self) -> None:
        try:
            asyncio.run(self._live())
        finally:
            self._up.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._up.set()
        await self._leaving.wait()
        calls = tuple(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                for source in tuple(self._sources):
                    await source.aclose()
                await self._farewell()

    async def _tracked(self, verb: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await verb()
        finally:
            self._calls.discard(task)


def refuse_in_a_loop() -> None:
    """Raises UsageError where blocking would stop an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError("SyncBroker would block this event loop: use orbit.Broker in async code")


def _need_real_threads() -> None:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise UsageError(
            "SyncBroker needs real threads, which gevent has patched away: use a threaded server"
            " (gunicorn --worker-class gthread), or an edge's HTTP"
        )
