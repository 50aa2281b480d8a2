"""The processes for steps: none outlives its pool or is left over, whenever a step is given up."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import time
from typing import Any

import pytest

from orbit.worker.processes import Job, ProcessDied, Processes
from tests.support.waiting import PATIENCE_S, soon

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
    async with asyncio.timeout(PATIENCE_S):
        await processes.close()
        with pytest.raises((ProcessDied, OSError)):
            await running
    assert multiprocessing.active_children() == []


async def test_given_up_while_it_is_being_started() -> None:
    processes = Processes(1)
    running = await begun(processes)
    running.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not processes._idle, "it isn't kept"
        await processes.close()
    assert multiprocessing.active_children() == []


class Slow:
    """Takes its time to be read, as a large module does to be imported."""

    def __reduce__(self) -> Any:
        return time.sleep, (2.0,)


async def test_the_time_limit_counts_from_the_call_on() -> None:
    """The start of the process, and what it imports, is no part of the step's time."""
    processes = Processes(1)
    try:
        assert await processes.run(Job("reads", "key", 1, repr, (Slow(),), {}), nobody, timeout_s=1.5) == "None"
        with pytest.raises(TimeoutError):
            await processes.run(WAITS, nobody, timeout_s=0.01)
    finally:
        await processes.close()


def test_a_process_for_steps_imports_next_to_nothing_of_a_worker() -> None:
    """It starts within a fraction of a worker's time, however large the worker's own imports are."""
    for module in ("orbit.worker.processes", "orbit.__main__"):
        command = (sys.executable, "-c", f"import sys, {module}; print(*sys.modules)")
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert module in found
        assert not {"redis", "uvicorn", "typer", "orbit.store", "orbit.cli.main", "orbit.worker.worker"} & set(found)
