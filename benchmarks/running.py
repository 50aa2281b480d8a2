"""How a measurement is run: whatever ends it, the processes that it started end with it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def run(measurement: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run`, for which SIGTERM is like SIGINT: what was started is stopped before this process ends.

    The peers' workers would live on otherwise, and the next measurement would have a core less.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    return asyncio.run(measurement)
