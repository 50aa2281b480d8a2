"""A transaction's stay on this worker: loaded, run, taken down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from pydantic import ValidationError

from orbit.state import LeaveRun, State, bind, encode, flaw_of, from_input, rebuild
from orbit.store import types as t
from orbit.worker.actor import Actor, reasons
from orbit.worker.handlers import Attendant
from orbit.worker.history import History, Listener
from orbit.worker.runner import backoff_s, run_all
from orbit.worker.settling import persist
from orbit.worker.surroundings import Leaving
from orbit.worker.turn import Turn, failed
from orbit.worker.verbs import ActorTransaction

_UNWIND_S = 1.0
"""How long hooks that were cancelled may take to unwind before their transaction is given away all the same."""


async def live(actor: Actor, drop: asyncio.Event) -> Leaving:
    """Run the transaction until it leaves this worker. What it was is decided when this returns; threads may be left.

    Args:
        drop: Set when nothing may be waited for any more.
    """
    _begin(actor, _stay(actor))
    try:
        await actor.left.wait()
    finally:
        actor.leave(Leaving.HANDED_OVER)
        await _take_down(actor, drop)
    assert actor.leaving is not None
    return actor.leaving


async def _stay(actor: Actor) -> None:
    if not await _load(actor):
        return
    if "run" in actor.hooks and not actor.history.run_returned:
        actor.running = True
        _begin(actor, run_all(actor))
    _begin(actor, Attendant(actor).run())
    _begin(actor, _end_when_cancelled(actor))


def _begin(actor: Actor, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(_watched(actor, work))
    actor.tasks.add(task)
    task.add_done_callback(actor.tasks.discard)


# ---- loading


async def _load(actor: Actor) -> bool:
    """Rebuild the State; False where there is nothing to run."""
    store, grant = actor.around.store, actor.grant
    loaded = await persist(lambda: store.load(grant.tx, grant.epoch))
    if not isinstance(loaded, t.Loaded):
        actor.leave(Leaving.GONE)
        return False
    listener = Listener(
        actor.note_refused, actor.note_broken, actor.note_ended, actor.note_cancel, actor.note_unread
    )
    actor.history = History(store, grant, loaded, actor.lease, listener, actor.around.lease_s, actor.around.metrics)
    actor.lease.number = loaded.number
    if loaded.cancel is not None:
        await actor.history.commit(Turn(end=t.NewEnd("cancelled")))
        return False
    if loaded.crashes >= actor.around.crash_limit:
        text = f"its workers were lost {loaded.crashes} times"
        await actor.history.commit(Turn(end=failed("Crashed", text)))
        return False
    return await _rebuild(actor, loaded)


async def _rebuild(actor: Actor, loaded: t.Loaded) -> bool:
    first = loaded.snapshot.number == 0
    try:
        state = (from_input if first else rebuild)(actor.cls, loaded.snapshot.fields)
        flaw = flaw_of(state) if first else None
    except ValidationError as error:
        if first:
            await actor.history.commit(Turn(end=failed("ValidationError", reasons(error))))
        else:
            await _unreadable(actor)
        return False
    except Exception:  # a validator's own
        await _unreadable(actor)
        return False
    if flaw is not None:
        text = f"{actor.cls.__name__}.{flaw[0]}: doesn't round-trip: {flaw[1]}"
        await actor.history.commit(Turn(end=failed("DefinitionError", text)))
        return False
    _bind(actor, state)
    return True


def _bind(actor: Actor, state: State) -> None:
    actor.state = state
    actor.history.committed = encode(state)
    bind(state, ActorTransaction(actor))


async def _unreadable(actor: Actor) -> None:
    """The code can't read its own snapshot: try again later, as a run that raised, and fail it in the end."""
    actor.failed("rebuild")
    attempts = actor.history.attempts + 1
    if attempts > actor.options.retries:
        await actor.history.commit(Turn(end=failed("SnapshotError", "its snapshot can't be rebuilt")))
        return
    await actor.history.commit(Turn(attempts=attempts))
    actor.leave(Leaving.RESTING, backoff_s(actor.around.retry, attempts, 1.0))


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


async def _end_when_cancelled(actor: Actor) -> None:
    """End a cancelled transaction once the running turn is committed; one that takes too long is rolled back."""
    await actor.cancelling.wait()
    taken = await actor.take_within(actor.around.cancel_grace_s)
    try:
        await actor.history.commit(Turn(end=t.NewEnd("cancelled")))
    finally:
        if taken:
            actor.give()


async def _take_down(actor: Actor, drop: asyncio.Event) -> None:
    """Cancel all that runs and let it unwind, then shut the history."""
    tasks = tuple(actor.tasks)
    for task in tasks:
        task.cancel()
    if tasks:
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
