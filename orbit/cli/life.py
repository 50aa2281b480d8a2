"""The life of a server process: its loop, its signals, its parent, its last moment."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import NoReturn

from orbit.cli.failures import DONE, tell
from orbit.config import PARENT

DRAINING = "draining; a second signal exits at once"
"""Said at the first signal."""

_PR_SET_PDEATHSIG = 1
_GC = (20_000, 20, 20)
"""Collecting more seldom than by default: a server makes many objects, and next to none in cycles."""


def live(
    life: Callable[[asyncio.Event], Awaitable[int | None]], *, abandon: Callable[[], None] | None = None
) -> NoReturn:
    """Run `life` to its end under uvloop, and leave the process.

    The first SIGTERM or SIGINT sets the event that `life` is given: it drains and returns. The second one exits at
    once, also while the loop is blocked, after `abandon` (plain, quick).

    The process is left without waiting for threads: a stuck plain hook must not hold it.
    """
    follow_parent()
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_GC)
    try:
        code = _new_loop().run_until_complete(_with_signals(life, abandon))
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:  # the process ends with it: whatever it is, it is told in one line
        code = tell(error)
    leave(code or DONE)


def leave(code: int) -> NoReturn:
    """Exit now, with what was printed and logged written out."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


async def _with_signals(
    life: Callable[[asyncio.Event], Awaitable[int | None]], abandon: Callable[[], None] | None
) -> int | None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            if abandon is not None:
                abandon()
            os._exit(128 + number)
        asked = True
        loop.call_soon_threadsafe(stop.set)
        with contextlib.suppress(OSError):  # not print: it may be what the signal interrupted
            os.write(sys.stderr.fileno(), f"{DRAINING}\n".encode())

    # Not loop.add_signal_handler: that one waits for its turn in a loop that may be blocked.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return await life(stop)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def follow_parent() -> None:
    """On Linux, die with the parent that `PARENT` names, however that dies."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the line above
        os._exit(128 + signal.SIGKILL)
