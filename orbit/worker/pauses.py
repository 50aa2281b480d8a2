"""Waiting in `run`: a sleep, a message, the end of a child. Deadlines are recorded, and waited for after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orbit.errors import TransactionFailed, UsageError
from orbit.protocol.ids import InboxId, PublicName
from orbit.protocol.messages import Value
from orbit.protocol.values import unpack
from orbit.store import types as t
from orbit.worker.actor import Actor, Pause
from orbit.worker.frames import Frame, Kind, forbid
from orbit.worker.lease import now_s
from orbit.worker.scopes import end_key, is_of_run, recall, record, sleep_member, wait_member
from orbit.worker.settling import persist
from orbit.worker.steps import MAX_SECONDS, before_waiting, is_seconds
from orbit.worker.surroundings import Leaving
from orbit.worker.turn import Turn

NOT_IN_A_HANDLER = frozenset({Kind.HANDLER, Kind.STEP})
THREAD_SLEEP_S = 60.0
"""The longest sleep of a plain `run`, whose thread waits."""


def check_seconds(verb: str, name: str, seconds: object) -> float:
    """`seconds`, if one may wait so long. Raises UsageError."""
    if not is_seconds(seconds):
        raise UsageError(f"{verb} {name!r}: seconds must be a number from 0 to {MAX_SECONDS:.0f}, not {seconds!r:.40}")
    return float(seconds)  # type: ignore[arg-type]


async def pause(actor: Actor, frame: Frame, until_s: float | None, over: Callable[[], bool]) -> None:
    """Wait without the turn until `over()`, or until then. A long pause may be spent unloaded."""

    async def wait() -> None:
        actor.pause = Pause(until_s, over, held=frame.threaded)
        actor.nudge()
        try:
            await _until(actor, until_s, over)
        finally:
            actor.pause = None

    await actor.without_turn(wait)


async def _until(actor: Actor, until_s: float | None, over: Callable[[], bool]) -> None:
    await asyncio.sleep(0)
    while not over():
        left_s = None if until_s is None else until_s - now_s()
        if left_s is not None and left_s <= 0:
            return
        actor.stirred.clear()
        try:
            async with asyncio.timeout(left_s):
                await actor.stirred.wait()
        except TimeoutError:
            pass


# ---- sleep


async def sleep(actor: Actor, frame: Frame, name: str, seconds: float) -> None:
    await actor.begin_verb()
    forbid(frame, "sleep", NOT_IN_A_HANDLER, "set_timer calls on_timer later; a step may use asyncio.sleep")
    wanted_s = check_seconds("sleep", name, seconds)
    if frame.threaded and wanted_s > THREAD_SLEEP_S:
        raise UsageError(
            f"sleep {name!r}: {wanted_s:g} s in a plain run, whose thread can't be unloaded: make run an async def"
        )
    key = frame.scope.use(name)
    member = sleep_member(key)
    await before_waiting(actor, frame, "sleep")
    if key in actor.history.names:
        recall("sleep", name, actor.history.names[key])
    else:
        names = {key: record("sleep", None, actor.around.limits.data_bytes, name)}
        await actor.commit_aside(Turn(names=names, timers={member: round(wanted_s * 1000)}))
    until_s = actor.history.timers.get(member)
    if until_s is None:
        await actor.pass_turn()
        return
    await pause(actor, frame, until_s, lambda: False)
    actor.turn.over.append(member)


# ---- wait_message


async def wait_message(actor: Actor, frame: Frame, name: str, timeout_s: float | None) -> Received | None:
    """The oldest message, taken out of the inbox and recorded in one commit."""
    await actor.begin_verb()
    forbid(frame, "wait_message", NOT_IN_A_HANDLER, "only run waits: write on_update, or set a field that run looks at")
    if "on_update" in actor.hooks:
        raise UsageError(
            "wait_message: this State has on_update, which gets the messages: do without one of the two"
        )
    limit_s = None if timeout_s is None else check_seconds("wait_message", name, timeout_s)
    key = frame.scope.use(name)
    member = wait_member(key)
    await before_waiting(actor, frame, "wait_message")
    recorded = actor.history.names.get(key)
    if recorded is not None and _kind_of(recorded) != "waiting":
        received = recall("wait_message", name, recorded)
        await actor.pass_turn()
        return Received.of(received)
    if recorded is None and limit_s is not None:
        names = {key: record("waiting", None, actor.around.limits.data_bytes, name)}
        await actor.commit_aside(Turn(names=names, timers={member: round(limit_s * 1000)}))
    return await _take(actor, frame, key, member)


async def _take(actor: Actor, frame: Frame, key: str, member: str) -> Received | None:
    await actor.without_turn(actor.looked.wait)  # what came in time may not have been read yet
    waiting = key in actor.history.names
    until_s = actor.history.timers.get(member, 0.0) if waiting else None
    await pause(actor, frame, until_s, lambda: bool(actor.mail))
    turn, received = Turn(over=[member] if waiting else []), None
    if actor.mail:
        entry = await _message(actor, actor.mail[0])
        actor.mail.popleft()  # not before: who is cancelled while it is read has taken nothing
        turn.consumed.append(entry.id)
        received = Received(entry.session, entry.subject, unpack(entry.data))
    limit_bytes = actor.around.limits.data_bytes + 1024  # the message was within its limit
    turn.names[key] = record("wait_message", received and received.value, limit_bytes, "the message")
    await actor.commit_aside(turn)
    return received


async def _message(actor: Actor, entry: InboxId) -> t.InboxEntry:
    found = await persist(lambda: actor.around.store.read_message(actor.tx, entry))
    if found is None:  # Redis lost it
        actor.leave(Leaving.HANDED_OVER)
        await actor.begin_verb()
        raise AssertionError("a transaction that leaves begins no verb")
    return found


class Received:
    """A message as it is recorded."""

    __slots__ = ("data", "session", "subject")

    def __init__(self, session: PublicName | None, subject: str | None, data: Value) -> None:
        self.session = session
        self.subject = subject
        self.data = data

    @property
    def value(self) -> Value:
        return [self.session, self.subject, self.data]

    @classmethod
    def of(cls, value: Any) -> Received | None:
        if value is None:
            return None
        session, subject, data = value
        return cls(None if session is None else PublicName(session), subject, data)


def _kind_of(recorded: bytes) -> Any:
    found: Any = unpack(recorded)
    return found[0]


# ---- the end of a child


async def child_result(actor: Actor, frame: Frame, name: str, field: str, key: str) -> Any:
    """The result of a child, once its end was taken. Raises TransactionFailed."""
    await actor.begin_verb()
    forbid(frame, "result", NOT_IN_A_HANDLER, "only run waits for a child: set a field that run looks at")
    await before_waiting(actor, frame, "result")
    names, recorded = actor.history.names, end_key(key)
    ours = is_of_run(key, actor.history.passes)
    if not ours or (recorded not in names and field not in actor.history.children):
        raise UsageError(f"result of {name!r}: only what run itself started, since its last restart, can be waited for")
    await pause(actor, frame, None, lambda: recorded in names)
    status, result, error = recall("end", name, names[recorded])
    if status == "finished":
        return None if result is None else unpack(result)
    kind, text = error or (None, f"it was {status}")
    raise TransactionFailed(f"child {name!r}: {text}", status=str(status), type=kind)
