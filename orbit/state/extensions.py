"""What an application gives its worker processes beside States: a lifespan, and middleware around the States' code.

Both are found by their worker in the module that APP names, as the States are.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from orbit.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Lifespan:
    """What is opened when a worker process begins, and closed when it ends."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of a State's code that is about to run.

    Attributes:
        tx: The transaction's id.
        state: Its State's name.
        hook: `run`, `on_update`, `on_new_connection`, `on_disconnect`, `on_timer`, `on_cancel`, `each` (a loop's body),
            `step`.
        name: Of the timer, the loop or the step; else empty.
        attempt: Of a `run` or a step: 1 for the first.
    """

    tx: str
    state: str
    hook: str
    name: str = ""
    attempt: int = 1


Proceed = Callable[[], Awaitable[Any]]
Around = Callable[[Call, Proceed], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Middleware:
    """What is called around each piece of a State's code."""

    name: str
    around: Around


def lifespan(function: Callable[[], AsyncIterator[Any]]) -> Lifespan:
    """Open something once per worker process: a pool of connections, a model.

        @orbit.lifespan
        async def resources():
            async with create_pool() as pool:
                yield pool                   # States have it as `self.context`

    Where it raises, the worker doesn't start. It is closed after the last transaction has left.

    Args:
        function: An async generator function that yields once.

    Raises:
        DefinitionError: It is none.
    """
    if not inspect.isasyncgenfunction(function):
        raise DefinitionError(f"{_name(function)}: orbit.lifespan takes an async generator function that yields once")
    return Lifespan(_name(function), asynccontextmanager(function))


def middleware(function: Around) -> Middleware:
    """Call `function(call, proceed)` around each piece of a State's code: for logging, tracing, a database session.

        @orbit.middleware
        async def traced(call, proceed):
            with tracer.start_as_current_span(f"{call.state}.{call.hook}"):
                return await proceed()

    It runs within the turn: what it takes, the turn takes. An exception of its own is the code's. The first in the
    module is the outermost.

    Raises:
        DefinitionError: It isn't async, or doesn't take the two.
    """
    try:
        inspect.signature(function).bind(None, None)
        fits = inspect.iscoroutinefunction(function)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise DefinitionError(f"{_name(function)}: orbit.middleware takes an async def with (call, proceed)")
    return Middleware(_name(function), function)


def _name(function: object) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
