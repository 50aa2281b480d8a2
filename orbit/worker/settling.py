"""Waiting that a cancellation doesn't cut short: what is under way is settled first, then it is raised."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from orbit.errors import OutcomeUnknown, Overloaded, Unavailable
from orbit.worker.lease import now_s

T = TypeVar("T")

BROKEN = (OutcomeUnknown, Unavailable, Overloaded)
"""What Redis answers when it is away or full: the same is asked again."""


async def settled(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. If the waiting task is cancelled, `work` goes on to its end, and then that is raised."""
    task = asyncio.ensure_future(work)
    await _until_this_is_done(task)
    return task.result()


async def until_done(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Return when all are done. A cancellation of the waiter is raised only then; errors of theirs aren't."""
    waiting = tuple(tasks)
    cancelled: asyncio.CancelledError | None = None
    while any(not task.done() for task in waiting):
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        for task in waiting:
            if not task.cancelled():
                task.exception()  # else it would be reported as never looked at
        try:
            raise cancelled
        finally:
            del cancelled  # it holds this frame, by its traceback


async def sleep_until(at_s: float) -> None:
    """Return at that time of `now_s`, which goes on while the machine is suspended."""
    while (left_s := at_s - now_s()) > 0:  # noqa: ASYNC110 - it is a time that is waited for
        await asyncio.sleep(left_s)


async def _until_this_is_done(task: asyncio.Task[Any]) -> None:
    """As `until_done`, for one, and for less."""
    cancelled: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    while not task.done():
        waiter = loop.create_future()

        def wake(_: object, waiter: asyncio.Future[None] = waiter) -> None:
            if not waiter.done():
                waiter.set_result(None)

        task.add_done_callback(wake)
        try:
            await waiter
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # else it would be reported as never looked at
        try:
            raise cancelled
        finally:
            del cancelled  # it holds this frame, by its traceback


class Backoff:
    """Growing pauses with full jitter on the upper half."""

    def __init__(self, first_s: float = 0.05, max_s: float = 2.0) -> None:
        self._next_s = first_s
        self._max_s = max_s

    def next_s(self) -> float:
        pause_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._max_s)
        return pause_s


async def persist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until Redis answers. Only for what may be asked again: reads, and writes that know their own repetition."""
    backoff = Backoff()
    while True:
        try:
            return await ask()
        except BROKEN:
            await asyncio.sleep(backoff.next_s())
