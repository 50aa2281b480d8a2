"""Whose code runs: each execution of a hook, a loop's body or a step is a frame, found through a context variable.

Verbs ask it what is allowed here, and whether they are awaited by the frame's own task.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from orbit.errors import UsageError
from orbit.worker.scopes import Scope

T = TypeVar("T")


class Kind(Enum):
    RUN = "run"
    HANDLER = "a handler"
    BODY = "the body of an each"
    STEP = "a step"


@dataclass(slots=True, eq=False)
class Frame:
    """One execution of a piece of a State's code, for the transaction `owner`.

    Attributes:
        hook: Its name, for messages.
        task: The only task that may await verbs here.
        name: Of the timer, the loop or the step; else empty.
        attempt: Which attempt of a `run` or a step it is.
        threaded: It is a plain function, in a thread.
        limit: What ends it when it holds the turn for too long.
        rejected: The text with which `connection.reject` refused the message.
    """

    owner: object
    kind: Kind
    hook: str
    scope: Scope
    task: asyncio.Task[Any] | None = None
    name: str = ""
    attempt: int = 1
    threaded: bool = False
    limit: asyncio.Timeout | None = None
    rejected: str | None = None

    @property
    def kind_of_call(self) -> str:
        """What middleware is told that it is."""
        return {Kind.BODY: "each", Kind.STEP: "step"}.get(self.kind, self.hook)


current_frame: ContextVar[Frame | None] = ContextVar("current_frame", default=None)


def frame_of(owner: object, verb: str) -> Frame:
    """The frame of the code that calls `verb`. Raises UsageError outside of a hook of `owner`."""
    frame = current_frame.get()
    if frame is None or frame.owner is not owner:
        raise UsageError(f"{verb}: called from outside of this transaction's hooks")
    return frame


def check_task(frame: Frame, verb: str) -> None:
    """Raise UsageError unless the frame's own task calls."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        raise UsageError(f"{verb}: a plain hook or step has it as self.transaction.sync.{verb}, which blocks") from None
    if task is not frame.task:
        raise UsageError(
            f"{verb}: called from a task that isn't {frame.hook}'s own. Await it there; for a time limit use"
            " `async with asyncio.timeout(s)`, not asyncio.wait_for; for several steps at once self.transaction.gather"
        )


def forbid(frame: Frame, verb: str, kinds: frozenset[Kind], instead: str) -> None:
    if frame.kind in kinds:
        raise UsageError(f"{verb}: not in {frame.kind.value} ({frame.hook}): {instead}")


class Verb(Generic[T]):
    """A verb that was called: it begins when it is awaited, by the frame's own task."""

    __slots__ = ("_begin", "_begun", "frame", "verb")

    def __init__(self, frame: Frame, verb: str, begin: Callable[[], Awaitable[T]]) -> None:
        self._begun = False
        self.frame = frame
        self.verb = verb
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, T]:
        self._begun = True
        check_task(self.frame, self.verb)
        return self._begin().__await__()

    def __del__(self) -> None:
        if not getattr(self, "_begun", True):
            warnings.warn(f"self.transaction.{self.verb} was called but never awaited", RuntimeWarning, stacklevel=2)
