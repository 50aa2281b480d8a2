"""`run`: its passes, its retries, its return."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from orbit.config import RetryPolicy
from orbit.errors import UsageError
from orbit.protocol.values import pack
from orbit.state import LeaveRun, Restarted
from orbit.store.types import NewEnd
from orbit.worker.actor import REST, Actor, trace_of
from orbit.worker.calls import call
from orbit.worker.frames import Frame, Kind
from orbit.worker.lease import now_s
from orbit.worker.permits import admitted, hold
from orbit.worker.retrying import backoff_s
from orbit.worker.scopes import run_keys, run_scope
from orbit.worker.turn import Turn, failed


async def run_all(actor: Actor) -> None:
    """Run `run` until it has returned, failed for good, or the transaction leaves."""
    actor.running = True
    holding: asyncio.Task[None] | None = None
    try:
        await _rest_on(actor)
        await admitted(actor)
        if actor.permit is not None:
            holding = asyncio.ensure_future(hold(actor))
        while not actor.closing and not actor.history.run_returned:
            await _attempt(actor)
    finally:
        if holding is not None:
            holding.cancel()
        actor.running = False
        actor.nudge()


async def _rest_on(actor: Actor) -> None:
    """Go on with the pause before the next attempt that a worker before began."""
    until_s = actor.history.timers.get(REST)
    if actor.history.attempts and until_s is not None:
        await _rest(actor, until_s - now_s())


async def _attempt(actor: Actor) -> None:
    pause_s = 0.0
    await actor.take()
    try:
        await _pass(actor)
    except LeaveRun as leave:
        _leave(actor, leave)
    except BaseException as error:
        if actor.closing:
            return
        actor.roll_back()
        if isinstance(error, asyncio.CancelledError) and _cancelled_from_outside():
            raise
        pause_s = await _failed(actor, error)
    finally:
        actor.give()
    if pause_s:
        await _rest(actor, pause_s)


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _leave(actor: Actor, leave: LeaveRun) -> None:
    actor.roll_back()
    if not isinstance(leave, Restarted) and not actor.closing:
        actor.log.error("a run left by an exception that isn't its own", exception=type(leave).__name__)
        actor.unload()


async def _pass(actor: Actor) -> None:
    """One pass from the top: ends with the commit of its return."""
    frame = Frame(actor, Kind.RUN, "run", run_scope(actor.history.passes), attempt=actor.history.attempts + 1)
    value = await call(actor, frame, actor.hook("run"))
    turn = actor.turn
    turn.forgotten = run_keys(actor.history.names)
    if actor.options.stays_open:
        turn.run_returned = True
    else:
        turn.end = NewEnd("finished", _result(actor, value))
    await actor.commit_turn()


def _result(actor: Actor, value: Any) -> bytes:
    return pack(value, limit_bytes=actor.around.limits.data_bytes, what="what run returned")


async def _failed(actor: Actor, error: BaseException) -> float:
    """Count a failed attempt; the pause before the next, or the transaction's end."""
    actor.failed("run")
    attempts = actor.history.attempts + 1
    if attempts > actor.options.retries:
        text = "the transaction's run failed"
        if isinstance(error, UsageError):
            text += ": a verb was called where it doesn't belong"
        await actor.history.commit(Turn(end=failed(type(error).__name__, text, trace_of(error))))
        return 0.0
    await actor.history.commit(Turn(attempts=attempts))
    return backoff_s(retry_policy(actor), attempts, random.random())


def retry_policy(actor: Actor) -> RetryPolicy:
    """How the State's `run` is tried again."""
    options, usual = actor.options, actor.around.retry
    first_s = usual.first_s if options.backoff_s is None else options.backoff_s
    return RetryPolicy(options.retries, first_s, usual.max_s)


async def _rest(actor: Actor, pause_s: float) -> None:
    """Wait before the next attempt; handlers have their turns meanwhile, and a long rest may be spent asleep."""
    if pause_s <= 0:
        return
    actor.resting_until_s = now_s() + pause_s
    actor.nudge()
    try:
        await asyncio.sleep(pause_s)
    finally:
        actor.resting_until_s = None
