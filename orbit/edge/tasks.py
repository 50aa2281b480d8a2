"""Tasks that have an owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("orbit.edge")


class Tasks:
    """The tasks of one owner. A defect in one is logged with its name and harms no other."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a defect in %s", task.get_name(), exc_info=error)

    async def settle(self, timeout_s: float) -> None:
        """Wait until all have ended; what hasn't after `timeout_s` is cancelled."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._tasks and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel all and wait for them; the owner leaves."""
        self.closed = True
        while tasks := tuple(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def every(seconds: Callable[[], float] | float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again, `seconds` after it was done; what it raises is logged."""
    while True:
        await asyncio.sleep(seconds() if callable(seconds) else seconds)
        try:
            await work()
        except Exception:
            log.exception("a defect in a timer")


def look_at(done: asyncio.Future[Any]) -> None:
    """For a future that perhaps nobody waits for any more: its error isn't reported as never looked at."""
    if not done.cancelled():
        done.exception()
