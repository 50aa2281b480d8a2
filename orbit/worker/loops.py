"""`each`: a durable loop, whose place is committed with what its body did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orbit.errors import UsageError
from orbit.state import STOP
from orbit.worker.actor import Actor
from orbit.worker.calls import call
from orbit.worker.frames import Frame, Kind
from orbit.worker.scopes import item_scope, recall, record

_STOPPED = -1


async def run_each(
    actor: Actor, frame: Frame, name: str, items: Sequence[Any], body: Callable[[Any], Any]
) -> None:
    """Run `body` for each of `items` from the recorded place on, each as one turn of its own."""
    if not isinstance(items, Sequence) or isinstance(items, Mapping):
        raise UsageError(f"each {name!r}: items must be a sequence (a range, a list), the same each time it is begun")
    key = frame.scope.use(name)
    await actor.end_turn()
    place: int = recall("each", name, actor.history.names[key]) if key in actor.history.names else 0
    while 0 <= place < len(items):
        place = await _item(actor, frame, name, key, place, items, body)
        await actor.pass_turn()


async def _item(
    actor: Actor, frame: Frame, name: str, key: str, place: int, items: Sequence[Any], body: Callable[[Any], Any]
) -> int:
    """One item's turn; the place after it. If the body raises, the turn leaves no trace."""
    await actor.begin_verb()
    scope = item_scope(actor.history.passes, name, place)
    try:
        inner = Frame(actor, Kind.BODY, f"the body of each {name!r}", scope, name=name)
        verdict = await call(actor, inner, body, items[place])
        after = _STOPPED if verdict is STOP else place + 1
        actor.turn.names[key] = record("each", after, actor.around.limits.data_bytes, name)
        actor.turn.forgotten = scope.keys(actor.history.names)
        await actor.commit_turn()
    except BaseException:
        actor.roll_back()
        raise
    return after
