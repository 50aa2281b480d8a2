"""One handler, one turn: all of it is committed, or nothing but its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orbit.state import LeaveRun, Refused
from orbit.worker.actor import Actor
from orbit.worker.calls import call
from orbit.worker.frames import Frame, Kind
from orbit.worker.scopes import Scope
from orbit.worker.turn import Turn

_FAILED = "the State failed on this message"


@dataclass(frozen=True, slots=True)
class Handling:
    """One handler to be called: `answer` fills the turn of its commit, `refuse` also that of a failed one."""

    hook: str
    args: tuple[Any, ...]
    scope: Scope
    answer: Callable[[Turn], None]
    refuse: Callable[[Turn, str, str], None] = lambda turn, code, text: None
    name: str = ""


async def handle(actor: Actor, handling: Handling) -> None:
    """Call the handler, in a turn of its own."""
    await actor.take()
    try:
        await handle_here(actor, handling)
    finally:
        actor.give()


async def handle_here(actor: Actor, handling: Handling) -> None:
    """Call the handler, in the turn that is held."""
    frame = Frame(actor, Kind.HANDLER, handling.hook, handling.scope, name=handling.name)
    try:
        refusal = await _run(actor, frame, handling)
        if refusal is not None:
            actor.roll_back()
            handling.refuse(actor.turn, *refusal)
            _answer(actor, handling)
            await actor.commit_turn()
    finally:
        if actor.turn != Turn():
            actor.roll_back()


async def _run(actor: Actor, frame: Frame, handling: Handling) -> tuple[str, str] | None:
    """Call the hook and commit its turn; code and text of a refusal, where it is to leave no trace."""
    try:
        await call(actor, frame, actor.hook(handling.hook), *handling.args)
        if frame.rejected is None:
            _answer(actor, handling)
            await actor.commit_turn()
            return None
    except Refused:
        pass
    except BaseException as error:
        if isinstance(error, LeaveRun) or actor.closing or _cancelled():
            actor.roll_back()
            raise
        actor.failed(handling.hook)
        return "state_error", _FAILED
    return "forbidden", frame.rejected or _FAILED


def _answer(actor: Actor, handling: Handling) -> None:
    actor.turn.forgotten = handling.scope.keys(actor.history.names)
    handling.answer(actor.turn)


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
