"""Steps: what is slow, or reaches outside. They run without the turn and are recorded as they end."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orbit.config import RetryPolicy
from orbit.errors import BadRequest, TooLarge, UsageError
from orbit.protocol.values import pack, unpack
from orbit.state import CurrentStep, LeaveRun, Step, SyncCurrentStep, enter_step, is_async
from orbit.store.types import NewUpdate
from orbit.worker.actor import Actor
from orbit.worker.calls import in_middleware, watched
from orbit.worker.frames import Frame, Kind, Verb, current_frame, forbid
from orbit.worker.processes import Job
from orbit.worker.retrying import backoff_s
from orbit.worker.scopes import recall, record
from orbit.worker.settling import until_done
from orbit.worker.threads import ThreadedCall, blocking
from orbit.worker.turn import Turn

MAX_SECONDS = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class How:
    """How a step is run. Raises UsageError for what can't be."""

    name: str
    retries: int = 0
    timeout_s: float | None = None
    backoff_s: float = 1.0
    in_process: bool = False

    def __post_init__(self) -> None:
        if type(self.retries) is not int or self.retries < 0:
            raise UsageError(f"step {self.name!r}: retries must be a whole number from 0 on, not {self.retries!r:.40}")
        if self.timeout_s is not None and not (is_seconds(self.timeout_s) and self.timeout_s > 0):
            raise UsageError(f"step {self.name!r}: timeout_s must be seconds above 0, not {self.timeout_s!r:.40}")
        if not is_seconds(self.backoff_s):
            raise UsageError(f"step {self.name!r}: backoff_s must be seconds from 0 on, not {self.backoff_s!r:.40}")


def is_seconds(value: object) -> bool:
    """Whether `value` is a duration: from 0 to ten years."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS


@dataclass(frozen=True, slots=True)
class Call:
    """What a step calls."""

    how: How
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        return self.how.name


class StepCall(Verb[Any], Step[Any]):
    """A step that was named but not yet begun."""

    __slots__ = ("_call",)

    def __init__(self, actor: Actor, frame: Frame, call: Call) -> None:
        super().__init__(frame, "step", lambda: _alone(actor, frame, call))
        self._call = call

    def give_away(self) -> Call:
        """Leave it to somebody else (`gather`) to run it."""
        self._begun = True
        return self._call


async def _alone(actor: Actor, frame: Frame, call: Call) -> Any:
    (result,) = await perform(actor, frame, "step", (call,))
    return result


async def perform(actor: Actor, frame: Frame, verb: str, calls: Sequence[Call]) -> list[Any]:
    """Run those of `calls` that aren't recorded, all at once, while others have their turns.

    Raises:
        UsageError: A name used twice; in a handler or a loop's body: after a change; a step that changed a field.
        The first error of a step, once all have settled.
    """
    await actor.begin_verb()
    forbid(frame, verb, frozenset({Kind.STEP}), "let the step return, and call the next one from the hook")
    keys = [frame.scope.use(call.name) for call in calls]
    await before_waiting(actor, frame, verb)
    names = actor.history.names
    done = {
        key: recall("step", call.name, names[key]) for key, call in zip(keys, calls, strict=True) if key in names
    }
    begun = {key: call for key, call in zip(keys, calls, strict=True) if key not in done}
    actor.steps += len(begun)
    try:
        done |= await actor.without_turn(lambda: _together(actor, frame, begun))
    finally:
        actor.steps -= len(begun)
        touched, actor.touched = actor.touched, actor.touched and actor.steps > 0
    if touched and begun:
        raise UsageError(
            f"{verb} {', '.join(repr(call.name) for call in begun.values())}: a step changed a field in place, which is"
            " dropped: a step touches no fields: return the value, and assign it after the step"
        )
    return [done[key] for key in keys]


async def before_waiting(actor: Actor, frame: Frame, verb: str) -> None:
    """Commit what the turn did, in `run`; a handler or a loop's body must not have done anything yet.

    Raises:
        UsageError: It has.
    """
    if frame.kind is Kind.RUN:
        await actor.commit_turn()
        return
    if actor.dirty:
        raise UsageError(
            f"{verb}: not in {frame.hook} after it changed a field or sent something: that part would run twice"
            " after a crash. Call steps and waits first, then change and send"
        )
    if actor.history.stored != actor.history.committed:
        await actor.commit_aside(Turn())  # what no snapshot holds yet, before what is recorded may depend on it


async def _together(actor: Actor, frame: Frame, calls: dict[str, Call]) -> dict[str, Any]:
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


async def _guarded(actor: Actor, frame: Frame, key: str, call: Call, errors: list[BaseException]) -> Any:
    try:
        return await _one(actor, frame, key, call)
    except BaseException as error:  # raised by whoever awaits the step
        errors.append(error)
        return None


async def _one(actor: Actor, frame: Frame, key: str, call: Call) -> Any:
    attempt = 1
    while True:
        try:
            value = await attempt_once(actor, frame, key, call, attempt)
            break
        except (UsageError, asyncio.CancelledError, LeaveRun):
            raise
        except BaseException as error:
            if attempt > call.how.retries or not isinstance(error, Exception):
                raise
            actor.log.warning("a step raised, and is tried again", step=call.name, attempt=attempt, error=repr(error))
        policy = RetryPolicy(first_s=call.how.backoff_s, max_s=actor.around.retry.max_s)
        await asyncio.sleep(backoff_s(policy, attempt, random.random()))
        attempt += 1
    packed = _recorded(call.name, value, actor.around.limits.data_bytes)
    await actor.commit_aside(Turn(names={key: packed}))
    return unpack(packed)[1]


def _recorded(name: str, value: Any, limit_bytes: int) -> bytes:
    """The result as it is recorded. Raises BadRequest or TooLarge, which say what to return instead."""
    try:
        return record("step", value, limit_bytes, f"the result of step {name!r}")
    except BadRequest as error:
        raise BadRequest(f"{error.message}: a step returns those (of a model, its model_dump)") from None
    except TooLarge as error:
        raise TooLarge(f"{error.message}: store it elsewhere, and return where it is") from None


async def attempt_once(actor: Actor, frame: Frame, key: str, call: Call, attempt: int) -> Any:
    """Call the function once, in a frame of its own."""
    inner = Frame(
        actor, Kind.STEP, f"step {call.name!r}", frame.scope, asyncio.current_task(), name=call.name, attempt=attempt
    )  # fmt: skip
    secret = actor.around.store.derived_id("step", actor.tx, key)
    enter_step(RunningStep(actor, call.name, secret, attempt))
    token = current_frame.set(inner)
    try:
        return await in_middleware(actor, inner, lambda: _function(actor, call, secret, attempt))
    finally:
        current_frame.reset(token)


async def _function(actor: Actor, call: Call, key: str, attempt: int) -> Any:
    how = call.how
    if how.in_process:
        return await _in_process(actor, call, key, attempt)
    async with asyncio.timeout(how.timeout_s) as limit:
        if is_async(call.fn):
            return await watched(actor, f"step {how.name!r}", call.fn(*call.args, **call.kwargs))
        thread = ThreadedCall(actor.threads, f"orbit step {how.name!r} {actor.tx}")

        def abandon() -> bool:
            if limit.expired() or not actor.patient:
                actor.log.warning("a step's thread can't be stopped: its result is dropped", step=how.name)
                return True
            return False

        value = await thread.run(abandon, call.fn, *call.args, **call.kwargs)
        return await value if inspect.isawaitable(value) else value


async def _in_process(actor: Actor, call: Call, key: str, attempt: int) -> Any:
    if is_async(call.fn):
        raise UsageError(f"step {call.name!r}: in_process takes a plain function, not an async one")
    if actor.around.processes is None:
        raise UsageError(f"step {call.name!r}: this worker has no processes for in_process")

    async def send(data: tuple[Any, ...]) -> None:
        await send_progress(actor, data)

    job = Job(call.name, key, attempt, call.fn, call.args, call.kwargs)
    return await actor.around.processes.run(job, send, call.how.timeout_s)


async def send_progress(actor: Actor, data: Sequence[Any]) -> None:
    """Send updates of a step, at once."""
    await actor.begin_verb()
    limit = actor.around.limits.data_bytes
    await actor.commit_aside(Turn(entries=[NewUpdate(pack(value, limit_bytes=limit)) for value in data]))


class RunningStep(CurrentStep):
    """The step that runs in this worker's process."""

    def __init__(self, actor: Actor, name: str, key: str, attempt: int) -> None:
        self.name = name
        self.key = key
        self.attempt = attempt
        self._actor = actor

    @property
    def sync(self) -> SyncCurrentStep:  # type: ignore[override]  # it is read only
        return _SyncRunningStep(self)  # kept, the two would hold each other

    async def send_update(self, *data: Any) -> None:
        await send_progress(self._actor, data)


class _SyncRunningStep(SyncCurrentStep):
    def __init__(self, step: RunningStep) -> None:
        self._step = step

    def send_update(self, *data: Any) -> None:
        blocking("send_update", lambda: self._step.send_update(*data))
