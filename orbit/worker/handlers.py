"""The handlers: messages and changes of connections, one after another, each as one turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orbit.errors import OrbitError
from orbit.protocol.ids import PublicName
from orbit.protocol.values import pack, unpack
from orbit.state import LeaveRun, Refused
from orbit.store import types as t
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, Kind
from orbit.worker.lease import now_s
from orbit.worker.scopes import Scope, change_scope, entry_scope
from orbit.worker.settling import persist
from orbit.worker.surroundings import Leaving
from orbit.worker.turn import Turn
from orbit.worker.verbs import ActorConnection

_BATCH = 1_000
"""Messages read at once: more than an inbox holds by default, as connection changes are compared with all of them."""
_FAILED = "the State failed on this message"


@dataclass(frozen=True, slots=True)
class _Call:
    """One handler to be called: `answer` fills the turn of its commit, `refuse` also that of a failed one."""

    hook: str
    args: tuple[Any, ...]
    scope: Scope
    answer: Callable[[Turn], None]
    refuse: Callable[[Turn, str, str], None]


class Attendant:
    """Attends to one transaction's inbox and connections."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._connections = bool(actor.hooks & {"on_new_connection", "on_disconnect"})
        self._barred: dict[PublicName, str] = {}
        self._next_change_s: float | None = None

    async def run(self) -> None:
        """Until the transaction leaves; decides that it leaves when there is nothing to do."""
        actor = self._actor
        while not actor.closing:
            if not await self._something():
                continue
            actor.attending = True
            try:
                more = await self._attend()
            finally:
                actor.attending = False
            if more:
                actor.nudge()

    # ---- waiting

    async def _something(self) -> bool:
        """Wait until it is worth looking; False where the transaction leaves instead."""
        actor = self._actor
        try:
            async with asyncio.timeout(self._patience_s()):
                await actor.look.wait()
        except TimeoutError:
            if self._next_change_s is None or now_s() < self._next_change_s:
                self._go()
                return False
        actor.look.clear()
        return True

    def _patience_s(self) -> float | None:
        """How long to wait for something: up to the next change, or until it counts as idle."""
        actor, until = self._actor, []
        if self._next_change_s is not None:
            until.append(max(0.0, self._next_change_s - now_s()))
        if not actor.running or self._long_rest_s() > 0:
            until.append(0.0 if actor.hurried else actor.around.linger_s)
        return min(until, default=None)

    def _long_rest_s(self) -> float:
        """How much longer `run` rests, where that is worth a sleep of the whole transaction."""
        until_s = self._actor.resting_until_s
        left_s = 0.0 if until_s is None else until_s - now_s()
        return left_s if left_s > self._actor.around.lease_s else 0.0

    def _go(self) -> None:
        rest_s = self._long_rest_s()
        if rest_s:
            self._actor.leave(Leaving.RESTING, rest_s)
        elif not self._actor.running:
            self._actor.leave(Leaving.IDLE)

    # ---- what was found

    async def _attend(self) -> bool:
        """Read once and answer it all; whether there is more."""
        actor = self._actor
        store, tx = actor.around.store, actor.tx
        known = actor.history.number  # commits may be done while the answer is on its way
        work = await persist(lambda: store.read_work(tx, actor.last_seen, _BATCH))
        if isinstance(work, t.Missing) or work.epoch != actor.grant.epoch:
            actor.leave(Leaving.GONE)
            return False
        if work.number < known:
            actor.log.warning("Redis lost writes: going on from what survived")
            actor.leave(Leaving.HANDED_OVER)
            return False
        if work.cancel is not None:
            actor.note_cancel()
        self._next_change_s = None if work.next_change_ms is None else now_s() + work.next_change_ms / 1000
        told = dict(work.told)
        changes = {change.session: change for change in work.changes}
        told_any = False
        for entry in work.messages:
            told_any |= await self._message(entry, told, changes)
            actor.last_seen = entry.id
        # Changes after all the messages: a message from an earlier place than the present one was stored before it.
        if not work.more:
            for change in work.changes:
                told_any |= await self._change(change, told)
        return work.more or told_any

    async def _message(
        self, entry: t.InboxEntry, told: dict[PublicName, str | None], changes: dict[PublicName, t.SessionChange]
    ) -> bool:
        """Answer a message, its session's connection before it; whether the State was told of that."""
        if "on_update" not in self._actor.hooks:
            return False
        told_any = False
        if entry.session is not None and self._connections:
            change = changes.get(entry.session)
            place = entry.place or ("" if change is None else change.place)
            before = told.get(entry.session)
            if place and place != before:
                await self._connected(entry.session, place, before, entry.subject)
                told[entry.session] = place
                told_any = True
        await self._update(entry)
        return told_any

    async def _change(self, change: t.SessionChange, told: dict[PublicName, str | None]) -> bool:
        before = told.get(change.session, change.told)
        if change.place == before or change.session in self._barred:
            return False
        if change.place:
            await self._connected(change.session, change.place, before, change.subject)
        else:
            await self._disconnected(change.session, change.subject)
        told[change.session] = change.place
        return True

    async def _update(self, entry: t.InboxEntry) -> None:
        def answer(turn: Turn) -> None:
            turn.consumed.append(entry.id)

        def refuse(turn: Turn, code: str, text: str) -> None:
            if entry.session is not None and entry.mid is not None:
                turn.entries.append(t.NewRefusal(entry.session, entry.mid, code, text))

        if entry.session is not None and entry.session in self._barred:
            turn = Turn()
            answer(turn)
            refuse(turn, "forbidden", self._barred[entry.session])
            await self._actor.commit_aside(turn)
            return
        connection = ActorConnection(self._actor, entry.session, True, entry.subject)
        args = (connection, unpack(entry.data))
        await self._handle(_Call("on_update", args, entry_scope(entry.id), answer, refuse))

    async def _connected(self, session: PublicName, place: str, before: str | None, subject: str | None) -> None:
        connection = ActorConnection(self._actor, session, before is not None, subject)
        await self._tell("on_new_connection", connection, session, place)
        if session in self._barred:
            await self._say_barred(session, place)

    async def _say_barred(self, session: PublicName, place: str) -> None:
        """The edge that holds the session hears of it now; where that fails, its next message or attach is refused."""
        at = t.Place.parse(place)
        if at is None:
            return
        text = self._barred[session]
        payload = {"t": "barred", "tx": self._actor.tx, "c": at.connection, "a": at.attach, "m": text}
        with contextlib.suppress(OrbitError):
            await self._actor.around.store.tell_edge(at.edge, pack(payload))

    async def _disconnected(self, session: PublicName, subject: str | None) -> None:
        connection = ActorConnection(self._actor, session, True, subject)
        await self._tell("on_disconnect", connection, session, "")

    async def _tell(self, hook: str, connection: ActorConnection, session: PublicName, place: str) -> None:
        """A connection hook; one that fails counts as told."""

        def answer(turn: Turn) -> None:
            turn.told.append((session, place))
            self._barred.update(turn.barred)

        if hook in self._actor.hooks:
            scope = change_scope(session, place)
            await self._handle(_Call(hook, (connection,), scope, answer, lambda turn, code, text: None))
        else:
            turn = Turn()
            answer(turn)
            await self._actor.commit_aside(turn)

    async def _handle(self, call: _Call) -> None:
        """One handler, one turn: all of it is committed, or nothing but its answer."""
        actor = self._actor
        frame = Frame(actor, Kind.HANDLER, call.hook, call.scope)
        await actor.take()
        try:
            refusal = await self._run(frame, call)
            if refusal is not None:
                actor.roll_back()
                call.refuse(actor.turn, *refusal)
                self._answer(actor.turn, call)
                await actor.commit_turn()
        finally:
            if actor.turn != Turn():
                actor.roll_back()
            actor.give()

    async def _run(self, frame: Frame, call: _Call) -> tuple[str, str] | None:
        """Call the hook and commit its turn; code and text of a refusal, where it is to leave no trace."""
        actor = self._actor
        try:
            await actor.call(frame, actor.hook(call.hook), *call.args)
            if frame.rejected is None:
                self._answer(actor.turn, call)
                await actor.commit_turn()
                return None
        except Refused:
            pass
        except BaseException as error:
            if isinstance(error, LeaveRun) or actor.closing or _cancelled():
                actor.roll_back()
                raise
            actor.failed(call.hook)
            return "state_error", _FAILED
        return "forbidden", frame.rejected or _FAILED

    def _answer(self, turn: Turn, call: _Call) -> None:
        turn.forgotten = call.scope.keys(self._actor.history.names)
        call.answer(turn)


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
