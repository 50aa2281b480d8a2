"""Virtual time: an event loop whose clock jumps to the next thing that is to happen, so a day passes in a moment.

While threads or processes work for the loop its clock stands still, and it waits for them as any loop does.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from orbit.errors import OrbitError, UsageError
from orbit.state import LeaveRun
from orbit.worker.lease import clock
from orbit.worker.outside import Outside, outside

T = TypeVar("T")

_BEGIN_S = 1_900_000_000.0
"""What `time.time()` says at the beginning: some day in 2030."""
_END_S = 30 * 365 * 86_400.0
_REAL_S = 0.02
_RESOLUTION_S = 1e-6
"""Finer than that a float doesn't tell times apart that are years away."""


class Stuck(OrbitError):
    """Every task waits, and nothing is to happen any more."""


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: it says how much time was to pass, and that has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.outside = Outside()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self.outside.busy:
            return super().select(_REAL_S)
        if timeout is None:
            raise Stuck("every task waits, and nothing is to happen any more")
        self.now_s += timeout
        if self.now_s > _END_S:
            raise Stuck("thirty years have passed, and nothing that was waited for has happened")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self._clock.outside = outside(self)
        self._clock_resolution = _RESOLUTION_S

    def time(self) -> float:
        return self._clock.now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        outside(self).begin()
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: outside(self).end())
        return future

    async def shutdown_default_executor(self) -> None:
        outside(self).begin()
        try:
            await super().shutdown_default_executor()
        finally:
            outside(self).end()


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """While the block runs, `time.time()` and the worker's clock tell the loop's time, in the whole process."""
    def time_of_day() -> float:
        return _BEGIN_S + loop.time()

    with mock.patch("time.time", time_of_day), clock(loop.time):
        yield


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What code was told that is dead by now is heard by nobody."""
    if not isinstance(context.get("exception"), LeaveRun):
        loop.default_exception_handler(context)


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` in virtual time, to its end.

    Raises:
        Stuck: It can't come to its end.
        UsageError: A loop runs here already.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise UsageError("virtual time needs a loop of its own: call this from a plain def, not from an async one")
    loop = VirtualLoop()
    loop.set_exception_handler(_handle)
    with virtual_time(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())
