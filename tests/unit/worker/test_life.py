"""The parts of a transaction's stay on a worker."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

from orbit.worker.life import _Life


async def test_one_that_is_ended_before_it_begins_leaves_nothing_that_was_never_awaited() -> None:
    async def part() -> None: ...

    actor: Any = SimpleNamespace(tasks=set())
    task = _Life(actor)._begin(part())
    task.cancel()
    await asyncio.wait((task,))
    del task
    gc.collect()  # a coroutine that was never awaited warns here, which is an error
    assert not actor.tasks
