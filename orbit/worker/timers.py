"""`set_timer` and `cancel_timer`. A timer's member names it, and which setting of it is meant."""

from __future__ import annotations

import secrets

from orbit.errors import UsageError
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, Kind, forbid
from orbit.worker.pauses import check_seconds
from orbit.worker.scopes import check_name, recall, record

_NO_STEP = frozenset({Kind.STEP})
MAX_TIMERS = 1_000
"""How many timers of one transaction may be set at a time."""


def timer_name(member: str) -> str:
    """The name of the timer that a member stands for."""
    return member.split("/", 2)[2]


def _set_members(actor: Actor, name: str) -> list[str]:
    """The members that count for `name`: of commits before, and of this turn."""
    turn = actor.turn
    return [
        member
        for member in (*actor.history.timers, *turn.timers)
        if member.startswith("t/") and timer_name(member) == name and member not in turn.dropped
    ]


async def set_timer(actor: Actor, frame: Frame, name: str, seconds: float) -> None:
    await actor.begin_verb()
    forbid(frame, "set_timer", _NO_STEP, "return from the step first")
    if "on_timer" not in actor.hooks:
        raise UsageError(f"set_timer {name!r}: the State has no on_timer(self, name), which it would call")
    wanted_s = check_seconds("set_timer", name, seconds)
    key = frame.scope.use(name) if frame.kind is Kind.RUN else None
    check_name(name)
    recorded = None if key is None else actor.history.names.get(key)
    if recorded is not None:
        recall("set_timer", name, recorded)
    else:
        _drop(actor, name)
        if len(actor.history.timers) + len(actor.turn.timers) >= MAX_TIMERS:
            raise UsageError(f"set_timer {name!r}: {MAX_TIMERS} timers are set already: cancel_timer takes one away")
        actor.turn.timers[f"t/{secrets.token_hex(4)}/{name}"] = round(wanted_s * 1000)
        if key is not None:
            actor.turn.names[key] = record("set_timer", None, actor.around.limits.data_bytes, name)
    if frame.kind is Kind.RUN:
        await actor.end_turn()


async def cancel_timer(actor: Actor, frame: Frame, name: str) -> None:
    await actor.begin_verb()
    forbid(frame, "cancel_timer", _NO_STEP, "return from the step first")
    check_name(name)
    key = frame.scope.use_apart("cancel", name) if frame.kind is Kind.RUN else None
    if key is None or key not in actor.history.names:
        _drop(actor, name)
        if key is not None:
            actor.turn.names[key] = record("cancel_timer", None, actor.around.limits.data_bytes, name)
    if frame.kind is Kind.RUN:
        await actor.end_turn()


def _drop(actor: Actor, name: str) -> None:
    for member in _set_members(actor, name):
        if actor.turn.timers.pop(member, None) is None:
            actor.turn.dropped.append(member)
