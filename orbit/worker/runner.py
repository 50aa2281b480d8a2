"""`run`: its passes, its retries, its return."""

from __future__ import annotations

import asyncio
import random
import traceback
from typing import Any

from orbit.config import RetryPolicy
from orbit.errors import UsageError
from orbit.protocol.values import pack
from orbit.state import LeaveRun, Restarted
from orbit.store.types import NewEnd
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, Kind
from orbit.worker.lease import now_s
from orbit.worker.scopes import run_keys, run_scope
from orbit.worker.turn import Turn, failed

_TRACE = 16_000


def backoff_s(policy: RetryPolicy, attempt: int, luck: float) -> float:
    """The pause before attempt number `attempt` + 1: doubling up to the longest, `luck` (0 to 1) on its upper half."""
    whole_s = min(policy.first_s * 2.0 ** min(attempt - 1, 30), policy.max_s)
    return whole_s * (0.5 + 0.5 * luck)


async def run_all(actor: Actor) -> None:
    """Run `run` until it has returned, failed for good, or the transaction leaves."""
    actor.running = True
    try:
        if actor.history.attempts and actor.history.rest_s:
            await _rest(actor, actor.history.rest_s)
        while not actor.closing and not actor.history.run_returned:
            await _attempt(actor)
    finally:
        actor.running = False
        actor.nudge()


async def _attempt(actor: Actor) -> None:
    pause_s = 0.0
    await actor.take()
    try:
        await _pass(actor)
    except LeaveRun as leave:
        _leave(actor, leave)
    except BaseException as error:
        actor.roll_back()
        if actor.closing:
            return
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
    frame = Frame(actor, Kind.RUN, "run", run_scope(actor.history.passes))
    async with asyncio.timeout(actor.options.timeout_s):
        value = await actor.call(frame, actor.hook("run"))
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
        trace = "".join(traceback.format_exception(error))[-_TRACE:]
        text = "the transaction's run failed"
        if isinstance(error, UsageError):
            text += ": a verb was called where it doesn't belong"
        await actor.history.commit(Turn(end=failed(type(error).__name__, text, trace)))
        return 0.0
    await actor.history.commit(Turn(attempts=attempts))
    return backoff_s(actor.around.retry, attempts, random.random())


async def _rest(actor: Actor, pause_s: float) -> None:
    """Wait before the next attempt; handlers have their turns meanwhile, and a long rest may be spent asleep."""
    actor.resting_until_s = now_s() + pause_s
    actor.nudge()
    try:
        await asyncio.sleep(pause_s)
    finally:
        actor.resting_until_s = None
