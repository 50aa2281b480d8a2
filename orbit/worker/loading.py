"""A transaction's State, rebuilt from what Redis holds of it."""

from __future__ import annotations

from pydantic import ValidationError

from orbit.errors import UsageError
from orbit.state import State, bind, encode, flaw_of, from_input, migrated, rebuild
from orbit.store import types as t
from orbit.worker.actor import Actor, reasons, trace_of
from orbit.worker.history import History, Listener
from orbit.worker.lease import now_s
from orbit.worker.retrying import backoff_s
from orbit.worker.runner import retry_policy
from orbit.worker.settling import persist
from orbit.worker.surroundings import Leaving
from orbit.worker.turn import Turn, failed
from orbit.worker.verbs import ActorTransaction


async def load(actor: Actor) -> bool:
    """Rebuild the State; False where there is nothing to run."""
    store, grant = actor.around.store, actor.grant
    asked_s = now_s()
    loaded: t.Loaded | t.Fenced | t.Vanished | None = grant.loaded
    if loaded is None:
        loaded = await persist(lambda: store.load(grant.tx, grant.epoch))
    if not isinstance(loaded, t.Loaded):
        actor.leave(Leaving.GONE)
        return False
    _begin(actor, loaded, asked_s)
    if loaded.cancel is not None:
        actor.note_cancel(loaded.cancel)
    if await _over(actor, loaded):
        return False
    return await _rebuild(actor, loaded)


def _begin(actor: Actor, loaded: t.Loaded, asked_s: float) -> None:
    def to_deliver() -> None:
        actor.around.deliver(actor.tx)

    listener = Listener(
        actor.note_refused, actor.note_broken, actor.note_ending, actor.note_ended, actor.note_cancel,
        actor.note_unread, to_deliver,
    )
    actor.history = History(
        actor.around.store, actor.grant, loaded, actor.lease, listener, actor.around.lease_s, actor.around.metrics,
        actor.options.version,
    )  # fmt: skip
    actor.lease.number = loaded.number
    actor.parent, actor.lineage, actor.priority = loaded.parent, loaded.lineage, loaded.priority
    if actor.options.timeout_s is not None:
        actor.late_s = asked_s + actor.options.timeout_s - loaded.elapsed_ms / 1000
    if loaded.noted is not None and loaded.crashes >= actor.around.crashes.reject:
        actor.poison = loaded.noted


async def _over(actor: Actor, loaded: t.Loaded) -> bool:
    """End what is to go on no more."""
    if loaded.cancel is not None and "on_cancel" not in actor.hooks:
        await actor.history.commit(Turn(end=t.NewEnd("cancelled")))
        return True
    limits = actor.around.crashes
    if loaded.crashes >= (limits.fail if loaded.noted is None else limits.hopeless):
        text = f"its workers were lost {loaded.crashes} times"
        await actor.history.commit(Turn(end=failed("Crashed", text)))
        return True
    return False


async def _rebuild(actor: Actor, loaded: t.Loaded) -> bool:
    first, snapshot = loaded.snapshot.number == 0, loaded.snapshot
    old = snapshot.version != actor.options.version
    try:
        state = _state(actor.cls, snapshot, first=first, old=old)
        flaw = flaw_of(state) if first else None
    except ValidationError as error:
        if first and not old:
            await actor.history.commit(Turn(end=failed("ValidationError", reasons(error))))
        else:
            text = f"its snapshot of version {snapshot.version} can't be rebuilt: {reasons(error)}"
            await _unreadable(actor, text, error)
        return False
    except UsageError as error:
        await _unreadable(actor, str(error), error)
        return False
    except Exception as error:  # a validator's own, or migrate's
        failed_at = f"migrate failed on its snapshot of version {snapshot.version}"
        await _unreadable(actor, failed_at if old else "its snapshot can't be rebuilt", error)
        return False
    if flaw is not None:
        text = f"{actor.cls.__name__}.{flaw[0]}: doesn't round-trip: {flaw[1]}"
        await actor.history.commit(Turn(end=failed("DefinitionError", text)))
        return False
    _bind(actor, state)
    return True


def _state(cls: type[State], snapshot: t.Snapshot, *, first: bool, old: bool) -> State:
    if old:
        return migrated(cls, snapshot.version, snapshot.fields)
    return (from_input if first else rebuild)(cls, snapshot.fields)


def _bind(actor: Actor, state: State) -> None:
    actor.state = state
    actor.history.committed = encode(state)
    bind(state, ActorTransaction(actor), actor.around.context)


async def _unreadable(actor: Actor, text: str, error: Exception) -> None:
    """The code can't read its own snapshot: try again later, as a run that raised, and fail it in the end."""
    actor.failed("rebuild")
    attempts = actor.history.attempts + 1
    if attempts > actor.options.retries:
        await actor.history.commit(Turn(end=failed("SnapshotError", text, trace_of(error))))
        return
    await actor.history.commit(Turn(attempts=attempts))
    actor.leave(Leaving.RESTING, backoff_s(retry_policy(actor), attempts, 1.0))
