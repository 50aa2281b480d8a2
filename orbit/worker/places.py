"""Where a State's code stands: for those who look at it from outside, while it blocks or waits."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from orbit.worker import calls, steps
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame

_OURS = str(Path(calls.__file__).parent)
_STACK = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where code stands.

    Attributes:
        where: File and line: the innermost of the State's own file, else of what isn't the worker's, else of all.
        stack: The innermost calls, from the State's code on.
        actor / hook: Whose code it is, where it is a State's.
    """

    where: str
    stack: str
    actor: Actor | None = None
    hook: str | None = None


def stands(innermost: FrameType | None, actor: Actor | None = None) -> Place:
    """Where a thread stands that has `innermost` as its newest frame. `actor`: whose it is, where it is one's."""
    if innermost is None:
        return Place("?", "", actor)
    frames: list[tuple[FrameType, int]] = []
    found: tuple[Actor, Frame] | None = None
    for frame, line in traceback.walk_stack(innermost):
        found = _called_by(frame.f_code, frame.f_locals) if frame.f_code in _CALLS else None
        if found is not None:
            break
        frames.append((frame, line))
    actor, hook = (actor, None) if found is None else (found[0], found[1].hook)
    kept = [(frame, line) for frame, line in frames if found is None or not _is_ours(frame.f_code)] or frames
    text = "".join(traceback.StackSummary.extract(iter(kept[:_STACK][::-1])).format())
    return Place(_where(((f.f_code, line) for f, line in frames), actor), text, actor, hook)


def waits(task: asyncio.Task[Any], actor: Actor) -> Place:
    """Where a task of the actor's waits, or the thread does that it waits for."""
    ident = actor.threads.ident_for(task)
    if ident is not None:
        return replace(stands(sys._current_frames().get(ident), actor), hook=_hook_of(task))
    return Place(_where(reversed(list(_awaited(task))), actor), "", actor, _hook_of(task))


def _where(innermost_first: Iterator[tuple[CodeType, int]], actor: Actor | None) -> str:
    own = getattr(sys.modules.get(actor.cls.__module__), "__file__", None) if actor is not None else None
    first = theirs = None
    for code, line in innermost_first:
        place = f"{code.co_filename}:{line}"
        if code.co_filename == own:
            return place
        first = first or place
        if not _is_ours(code):
            theirs = theirs or place
    return theirs or first or "?"


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS)


def _coroutines(task: asyncio.Task[Any]) -> Iterator[Any]:
    """What a task awaits, the outermost first."""
    coroutine: Any = task.get_coro()
    while inspect.iscoroutine(coroutine):
        if coroutine.cr_frame is not None:
            yield coroutine
        coroutine = coroutine.cr_await


def _awaited(task: asyncio.Task[Any]) -> Iterator[tuple[CodeType, int]]:
    for coroutine in _coroutines(task):
        yield coroutine.cr_frame.f_code, coroutine.cr_frame.f_lineno


def _hook_of(task: asyncio.Task[Any]) -> str | None:
    """The innermost piece of a State's code that the task runs."""
    hook = None
    for coroutine in _coroutines(task):
        if coroutine.cr_code in _CALLS:
            found = _called_by(coroutine.cr_code, coroutine.cr_frame.f_locals)
            hook = found[1].hook if found is not None else hook
    return hook


_CALLS = {calls.call.__code__: "frame", steps.attempt_once.__code__: "inner"}
"""The functions around each piece of a State's code, and what they call its frame."""


def _called_by(code: CodeType, local: Any) -> tuple[Actor, Frame] | None:
    actor, frame = local.get("actor"), local.get(_CALLS[code])
    return (actor, frame) if isinstance(actor, Actor) and isinstance(frame, Frame) else None
