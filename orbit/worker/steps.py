"""Steps: what is slow, or reaches outside. They run without the turn and are recorded as they end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from orbit.errors import UsageError
from orbit.protocol.values import unpack
from orbit.state import LeaveRun, Step, inside_step, is_async
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, Kind, Verb, current_frame, forbid
from orbit.worker.scopes import recall, record
from orbit.worker.settling import until_done
from orbit.worker.threads import ThreadedCall
from orbit.worker.turn import Turn


class StepCall(Verb[Any], Step[Any]):
    """A step that was named but not yet begun."""

    __slots__ = ("args", "fn", "kwargs", "name")

    def __init__(
        self, actor: Actor, frame: Frame, name: str, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        super().__init__(frame, "step", lambda: _alone(actor, self))
        self.name = name
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def given_away(self) -> None:
        """Somebody else (`gather`) runs it."""
        self._begun = True


async def _alone(actor: Actor, call: StepCall) -> Any:
    (result,) = await perform(actor, call.frame, "step", (call,))
    return result


async def perform(actor: Actor, frame: Frame, verb: str, calls: Sequence[StepCall]) -> list[Any]:
    """Run those of `calls` that aren't recorded, all at once, while others have their turns.

    Raises:
        UsageError: A name used twice; in a handler or a loop's body: after a change.
        The first error of a step, once all have settled.
    """
    await actor.begin_verb()
    forbid(frame, verb, frozenset({Kind.STEP}), "let the step return, and call the next one from the hook")
    keys = [frame.scope.use(call.name) for call in calls]
    if frame.kind is not Kind.RUN:
        if actor.dirty:
            raise UsageError(
                f"{verb}: not in {frame.hook} after it changed a field or sent something: that part would run twice"
                " after a crash. Call steps first, then change and send"
            )
        if actor.history.stored != actor.history.committed:
            await actor.commit_aside(Turn())  # what no snapshot holds yet, before the step may depend on it
    else:
        await actor.commit_turn()
    names = actor.history.names
    done = {
        key: recall("step", call.name, names[key]) for key, call in zip(keys, calls, strict=True) if key in names
    }
    begun = {key: call for key, call in zip(keys, calls, strict=True) if key not in done}
    done |= await actor.without_turn(lambda: _together(actor, frame, begun))
    return [done[key] for key in keys]


async def _together(actor: Actor, frame: Frame, calls: dict[str, StepCall]) -> dict[str, Any]:
    if not calls:
        await asyncio.sleep(0)
        return {}
    errors: list[BaseException] = []
    tasks = {key: asyncio.ensure_future(_guarded(actor, frame, key, call, errors)) for key, call in calls.items()}
    try:
        await asyncio.wait(tasks.values())
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        await until_done(tasks.values())
        raise
    for error in sorted(errors, key=lambda error: not isinstance(error, LeaveRun)):
        raise error
    return {key: task.result() for key, task in tasks.items()}


async def _guarded(actor: Actor, frame: Frame, key: str, call: StepCall, errors: list[BaseException]) -> Any:
    try:
        return await _one(actor, frame, key, call)
    except BaseException as error:  # raised by whoever awaits the step
        errors.append(error)
        return None


async def _one(actor: Actor, frame: Frame, key: str, call: StepCall) -> Any:
    hook = f"step {call.name!r}"
    current_frame.set(Frame(actor, Kind.STEP, hook, frame.scope, asyncio.current_task()))
    inside_step.set(True)
    if is_async(call.fn):
        value = await call.fn(*call.args, **call.kwargs)
    else:
        thread = ThreadedCall(actor.threads, f"orbit {hook} {actor.tx}")
        value = await thread.run(lambda: not actor.patient, call.fn, *call.args, **call.kwargs)
        if inspect.isawaitable(value):
            value = await value
    packed = record("step", value, actor.around.limits.data_bytes, f"the result of {hook}")
    await actor.commit_aside(Turn(names={key: packed}))
    return unpack(packed)[1]
