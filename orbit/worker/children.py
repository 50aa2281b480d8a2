"""Children: started with a commit of their parent, delivered by whoever can, their ends taken once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orbit.errors import UsageError
from orbit.protocol.ids import TxId
from orbit.state import Child, State, SyncChild
from orbit.store import types as t
from orbit.store.outboxes import child_field, child_of, pack_start
from orbit.store.starts import StartOptions, by_class, by_name
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, Kind, Verb, check_task, forbid, frame_of
from orbit.worker.pauses import child_result
from orbit.worker.scopes import end_key, is_of_run, recall, record
from orbit.worker.settling import persist
from orbit.worker.threads import blocking
from orbit.worker.turn import Turn

_NO_STEP = frozenset({Kind.STEP})
MAX_DEPTH = 16
"""How many generations there may be."""


async def start(
    actor: Actor, frame: Frame, name: str, state: State | str, fields: Mapping[str, Any] | None, options: StartOptions
) -> ActorChild:
    """Put the start of a child into the turn; a handle."""
    await actor.begin_verb()
    forbid(frame, "start", _NO_STEP, "return from the step first")
    key = frame.scope.use(name)
    tx = actor.around.store.derived_id("child", actor.tx, key)
    child = ActorChild(actor, tx, name, key)
    recorded = actor.history.names.get(key)
    if recorded is not None:
        recall("start", name, recorded)
    else:
        new = await _new(actor, name, state, fields, tx, options)
        new = replace(new, parent=t.Parent(actor.tx, key), lineage=_lineage(actor, name, new.state), body_digest=key)
        actor.turn.outbox[child_field(tx, key)] = pack_start(new)
        if frame.kind is Kind.RUN:
            actor.turn.names[key] = record("start", None, actor.around.limits.data_bytes, name)
    if frame.kind is Kind.RUN:
        await actor.end_turn()
    return child


async def _new(
    actor: Actor, name: str, state: State | str, fields: Mapping[str, Any] | None, tx: TxId, options: StartOptions
) -> t.NewTransaction:
    if isinstance(state, State):
        if fields is not None:
            raise UsageError(f"start {name!r}: a State holds its input itself")
        return by_class(state, {}, tx, options)
    if not isinstance(state, str):
        raise UsageError(f"start {name!r}: takes a State that holds its input, or a State's name and its input")
    records = await persist(actor.around.store.states)
    return by_name(state, records, fields or {}, tx, options)


def _lineage(actor: Actor, name: str, state: str) -> str:
    """The States from the first ancestor down to the child. Raises UsageError where there are too many."""
    lineage = f"{actor.lineage}/{state}"
    if lineage.count("/") >= MAX_DEPTH:
        raise UsageError(
            f"start {name!r}: more than {MAX_DEPTH} generations of children, as a cycle makes them: "
            + lineage.replace("/", " -> ")
        )
    return lineage


async def take_end(actor: Actor, ended: t.ChildEnd) -> None:
    """Take a child's end out of the inbox; what `run` may ask for is recorded. One that was taken before goes."""
    turn = Turn(consumed=[ended.id])
    if ended.field in actor.history.children:
        turn.taken.append(ended.field)
        _, key = child_of(ended.field)
        if is_of_run(key, actor.history.passes) and not actor.history.run_returned:
            error = (ended.outcome.error.type, ended.outcome.error.message) if ended.outcome.error else None
            limit_bytes = actor.around.limits.data_bytes + 64 * 1024  # its result was within its limit
            value = [ended.outcome.status, ended.outcome.result, error]
            turn.names[end_key(key)] = record("end", value, limit_bytes, "the end of a child")
    await actor.commit_aside(turn)
    actor.stir()


class ActorChild(Child):
    """A child, for its parent's code."""

    def __init__(self, actor: Actor, tx: TxId, name: str, key: str) -> None:
        self.id = tx
        self._actor = actor
        self._name = name
        self._key = key

    @property
    def sync(self) -> SyncChild:  # type: ignore[override]  # it is read only
        return _SyncActorChild(self)  # kept, the two would hold each other

    def result(self) -> Verb[Any]:
        frame = frame_of(self._actor, "result")
        check_task(frame, "result")
        return Verb(frame, "result", self._begin(frame))

    def _begin(self, frame: Frame) -> Callable[[], Any]:
        field = child_field(TxId(self.id), self._key)
        return lambda: child_result(self._actor, frame, self._name, field, self._key)


class _SyncActorChild(SyncChild):
    def __init__(self, child: ActorChild) -> None:
        self._child = child

    def result(self) -> Any:
        return blocking("result", self._child.result)
