"""Plain hooks, loop bodies and steps: each call runs in a daemon thread of its own.

The verbs that it calls (`self.transaction.sync`) are executed by the task that waits for it, the hook's own.
A thread can't be stopped: when its task is cancelled, its verbs raise `Unloaded` from then on, and the task waits until
it ends, or leaves it alone (`abandon`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from orbit.errors import UsageError
from orbit.state import Unloaded
from orbit.worker.outside import outside

T = TypeVar("T")

_current: ContextVar[ThreadedCall | None] = ContextVar("threaded_call", default=None)


@dataclass(frozen=True, slots=True)
class _Request:
    make: Callable[[], Awaitable[Any]]
    reply: Future[Any]


@dataclass(frozen=True, slots=True)
class _Over:
    value: Any
    error: BaseException | None


class Threads:
    """The threads of one transaction that still run; its slot isn't free before they have ended."""

    def __init__(self) -> None:
        self._calls: dict[ThreadedCall, asyncio.Task[Any] | None] = {}
        self.none = asyncio.Event()
        self.none.set()

    @property
    def alive(self) -> int:
        return len(self._calls)

    def ident_for(self, task: asyncio.Task[Any]) -> int | None:
        """The thread that `task` waits for."""
        return next((call.ident for call, waiting in self._calls.items() if waiting is task), None)

    def began(self, call: ThreadedCall) -> None:
        self._calls[call] = asyncio.current_task()
        self.none.clear()

    def ended(self, call: ThreadedCall) -> None:
        del self._calls[call]
        if not self._calls:
            self.none.set()


class ThreadedCall:
    """One call of a plain function."""

    def __init__(self, threads: Threads, name: str) -> None:
        self._threads = threads
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._outside = outside()
        self._requests: asyncio.Queue[_Request | _Over] = asyncio.Queue()
        self.ident: int | None = None
        self._closed = False
        self._interrupted = False

    async def run(self, abandon: Callable[[], bool], fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What `fn` returns or raises.

        A cancellation is raised here once the thread has ended, or at once where `abandon()` says so. It is swallowed
        where the thread ran to its end without noticing.
        """
        context = copy_context()
        work = (self._work, fn, args, kwargs)
        thread = threading.Thread(target=context.run, args=work, name=self._name, daemon=True)
        self._threads.began(self)
        self._outside.begin()
        thread.start()
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                request = await self._requests.get()
                if isinstance(request, _Over):
                    break
                await self._serve(request)
            except asyncio.CancelledError as error:
                cancelled = error
                self._closed = True
                if abandon():
                    self._refuse_rest()
                    raise
        if cancelled is not None and (self._interrupted or request.error is not None):
            raise cancelled
        if request.error is not None:
            raise request.error
        return request.value  # type: ignore[no-any-return]

    def _refuse(self, request: _Request) -> None:
        self._interrupted = True
        self._outside.begin()
        request.reply.set_exception(Unloaded("this worker no longer runs the transaction"))

    def _refuse_rest(self) -> None:
        while not self._requests.empty():
            request = self._requests.get_nowait()
            if isinstance(request, _Request):
                self._refuse(request)

    async def _serve(self, request: _Request) -> None:
        if self._closed:
            self._refuse(request)
            return
        try:
            value = await request.make()
        except asyncio.CancelledError:
            self._refuse(request)
            raise
        except BaseException as error:  # the thread's to handle
            self._outside.begin()
            request.reply.set_exception(error)
        else:
            self._outside.begin()
            request.reply.set_result(value)

    # ---- in the thread

    def _work(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.ident = threading.get_ident()
        _current.set(self)
        try:
            over = _Over(fn(*args, **kwargs), None)
        except BaseException as error:
            over = _Over(None, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._end, over)

    def _end(self, over: _Over) -> None:
        self._outside.end()
        self._threads.ended(self)
        self._requests.put_nowait(over)

    def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Have the waiting task execute a verb; blocks this thread until it is done."""
        reply: Future[T] = Future()
        try:
            self._loop.call_soon_threadsafe(self._post, _Request(make, reply))
        except RuntimeError:
            raise Unloaded("this worker no longer runs the transaction") from None
        return reply.result()

    def _post(self, request: _Request) -> None:
        self._outside.end()  # from now on the thread waits for the loop
        if self._closed:
            self._refuse(request)
        else:
            self._requests.put_nowait(request)

    @property
    def mine(self) -> bool:
        """Whether the calling thread is this call's."""
        return self.ident == threading.get_ident()


def blocking(verb: str, make: Callable[[], Awaitable[T]]) -> T:
    """Execute a verb from a plain hook's thread.

    Raises:
        UsageError: The calling thread is none of a plain hook or step.
    """
    call = _current.get()
    if call is None or not call.mine:
        raise UsageError(f"sync.{verb}: only in the thread of a plain hook or step; in an async one await {verb}")
    return call.call(make)
