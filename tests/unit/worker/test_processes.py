"""The processes for steps: none outlives its pool or is left over, whenever a step is given up."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from typing import Any

import pytest

from orbit.worker.processes import Job, ProcessDied, Processes
from tests.support.waiting import soon

WAITS = Job("waits", "key", 1, time.sleep, (60,), {})


async def nobody(_: tuple[Any, ...]) -> None: ...


async def begun(processes: Processes) -> asyncio.Task[Any]:
    """A step whose process is being started."""
    running = asyncio.ensure_future(processes.run(WAITS, nobody))
    await soon(lambda: processes._all)
    return running


async def test_closed_while_one_is_being_started() -> None:
    processes = Processes(1)
    running = await begun(processes)
    async with asyncio.timeout(20):
        await processes.close()
        with pytest.raises((ProcessDied, OSError)):
            await running
    assert multiprocessing.active_children() == []


async def test_given_up_while_it_is_being_started() -> None:
    processes = Processes(1)
    running = await begun(processes)
    running.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not processes._all, "it isn't kept"
        await soon(lambda: not multiprocessing.active_children())
        await processes.close()
