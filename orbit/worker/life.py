"""A transaction's stay on this worker: loaded, run, taken down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from orbit.state import LeaveRun
from orbit.store import types as t
from orbit.worker.actor import Actor
from orbit.worker.handlers import Attendant
from orbit.worker.handling import Handling, handle_here
from orbit.worker.loading import load
from orbit.worker.runner import run_all
from orbit.worker.scopes import cancel_scope
from orbit.worker.settling import persist, sleep_until
from orbit.worker.surroundings import Leaving
from orbit.worker.turn import Turn, failed

_PASSES = 3
"""Of the loop, in which code that doesn't wait for anything more has unwound."""
_UNWIND_S = 1.0
"""How long hooks that were cancelled may take to unwind before their transaction is given away all the same."""


async def live(actor: Actor, drop: asyncio.Event) -> Leaving:
    """Run the transaction until it leaves this worker. What it was is decided when this returns; threads may be left.

    Args:
        drop: Set when nothing may be waited for any more.
    """
    life = _Life(actor)
    try:
        await life.begin()
        await actor.left.wait()
    finally:
        actor.leave(Leaving.HANDED_OVER)
        await _take_down(actor, drop)
    assert actor.leaving is not None
    return actor.leaving


class _Life:
    """What runs for a transaction: each part is begun when there is something for it to do.

    It begins in the context of the transaction's task, though it may be a step or `run` that gives the occasion: no
    context variable gets from there into a handler.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._context = copy_context()
        self._working: list[asyncio.Task[None]] = []
        self._ending = False

    async def begin(self) -> None:
        if self._actor.grant.loaded is not None:
            await _watched(self._actor, self._stay())
        else:
            self._begin(self._stay())

    async def _stay(self) -> None:
        actor = self._actor
        if not await load(actor):
            return
        actor.on_cancelling = self._end_when_cancelled
        if actor.cancelling:
            self._end_when_cancelled()
        else:
            runs = "run" in actor.hooks and not actor.history.run_returned
            if runs:
                actor.running = True
                self._working.append(self._begin(run_all(actor)))
            actor.on_look = self._attend
            if not runs or actor.look.is_set():
                self._attend()
        if actor.late_s is not None:
            self._begin(_end_when_late(actor, actor.late_s))

    def _attend(self) -> None:
        """Look after its inbox and its connections from now on, and decide when it is to sleep."""
        actor = self._actor
        if not actor.attended and not self._ending and not actor.closing:
            actor.attended = True
            self._working.append(self._begin(Attendant(actor).run()))

    def _end_when_cancelled(self) -> None:
        if not self._ending and not self._actor.closing:
            self._ending = True
            self._begin(_end_cancelled(self._actor, self._working))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        actor = self._actor
        task = asyncio.get_running_loop().create_task(_watched(actor, work), context=self._context.copy())
        actor.tasks.add(task)
        task.add_done_callback(actor.tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been ended before it began
        return task


# ---- running


async def _watched(actor: Actor, work: Coroutine[Any, Any, None]) -> None:
    """A part that dies takes the transaction from this worker, for a while: nothing goes on without it."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except LeaveRun:
        actor.leave(Leaving.HANDED_OVER)
    except BaseException:
        actor.log.exception("a defect of the worker's")
        actor.leave(Leaving.RESTING, 1.0)


async def _end_cancelled(actor: Actor, working: list[asyncio.Task[None]]) -> None:
    """End a cancelled transaction once the running turn is committed; one that takes too long is rolled back."""
    taken = await actor.take_within(actor.around.cancel_grace_s)
    if "on_cancel" in actor.hooks:
        if taken:
            actor.give()
        await _clean_up(actor, working)
        return
    await _end(actor, t.NewEnd("cancelled"), taken=taken)


async def _clean_up(actor: Actor, working: list[asyncio.Task[None]]) -> None:
    """Stop all of the State's code, call `on_cancel`, and end, whether or not that hook fails or takes too long."""
    for task in working:
        task.cancel()
    limit_s = actor.options.cancel_timeout_s
    if working:
        _, left = await asyncio.wait(working, timeout=limit_s)
        if left:
            actor.log.error("a thread of the State's can't be stopped: on_cancel isn't called")
            await _end(actor, t.NewEnd("cancelled"), taken=False)
            return
    if not actor.cancel_reason:  # it was told of by a mere nudge
        found = await persist(lambda: actor.around.store.get(actor.tx))
        actor.cancel_reason = found.cancel_reason if found is not None else None
    await actor.take()
    over = t.NewEnd("cancelled")

    def answer(turn: Turn) -> None:
        turn.end = over

    try:
        async with asyncio.timeout(limit_s):
            await handle_here(actor, Handling("on_cancel", (), cancel_scope(), answer, lambda *_: None))
    except TimeoutError:
        actor.log.error("on_cancel took too long: the transaction ends without it", limit_s=limit_s)
        actor.roll_back()
        await actor.history.commit(Turn(end=over))
    finally:
        actor.give()


async def _end_when_late(actor: Actor, late_s: float) -> None:
    """Fail a transaction that takes longer than its `timeout_s`."""
    await sleep_until(late_s)
    taken = await actor.take_within(actor.around.cancel_grace_s)
    text = f"it took longer than its timeout_s, {actor.options.timeout_s:g} s"
    await _end(actor, failed("TimeoutError", text), taken=taken)


async def _end(actor: Actor, how: t.NewEnd, *, taken: bool) -> None:
    try:
        await actor.history.commit(Turn(end=how))
    finally:
        if taken:
            actor.give()


async def _take_down(actor: Actor, drop: asyncio.Event) -> None:
    """Cancel all that runs and let it unwind, then shut the history."""
    tasks = tuple(actor.tasks)
    for task in tasks:
        task.cancel()
    for _ in range(_PASSES):
        if actor.tasks:
            await asyncio.sleep(0)
    if actor.tasks:
        timeout = None if actor.patient else _UNWIND_S
        await _any_of(asyncio.gather(*tasks, return_exceptions=True), drop, timeout)
    if hasattr(actor, "history"):
        if drop.is_set() or actor.leaving is Leaving.GONE:
            actor.history.drop()
        actor.history.shut()


async def _any_of(work: asyncio.Future[Any], drop: asyncio.Event, timeout_s: float | None) -> None:
    """Until `work` is done, or `drop` is set, or it takes too long; `work` goes on by itself then."""
    dropped = asyncio.ensure_future(drop.wait())
    try:
        await asyncio.wait((work, dropped), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        dropped.cancel()
