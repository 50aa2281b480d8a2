"""What waits for a transaction, read and answered in order: messages, timers, ends of children, connections."""

from __future__ import annotations

import asyncio
import contextlib

from orbit.errors import OrbitError
from orbit.protocol.ids import PublicName
from orbit.protocol.values import pack, unpack
from orbit.store import types as t
from orbit.worker.actor import Actor
from orbit.worker.children import take_end
from orbit.worker.handling import Handling, handle
from orbit.worker.lease import now_s
from orbit.worker.scopes import change_scope, entry_scope
from orbit.worker.settling import persist
from orbit.worker.surroundings import Leaving
from orbit.worker.timers import timer_name
from orbit.worker.turn import Turn
from orbit.worker.verbs import ActorConnection

_BATCH = 1_000
"""Messages read at once: more than an inbox holds by default, as connection changes are compared with all of them."""
_KILLED = "the processes that handled this message were lost"


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
        if not actor.running or self._long_rest_s() > 0 or actor.long_pause_s > 0:
            until.append(0.0 if actor.hurried else actor.around.linger_s)
        return min(until, default=None)

    def _long_rest_s(self) -> float:
        """How much longer `run` rests, where that is worth a sleep of the whole transaction."""
        until_s = self._actor.resting_until_s
        left_s = 0.0 if until_s is None else until_s - now_s()
        return left_s if left_s > self._actor.around.lease_s else 0.0

    def _go(self) -> None:
        actor, rest_s = self._actor, self._long_rest_s()
        if rest_s:
            actor.leave(Leaving.RESTING, rest_s)
        elif actor.long_pause_s > 0:
            assert actor.pause is not None
            actor.leave(Leaving.IDLE if actor.pause.limit is None else Leaving.WAITING)
        elif not actor.running:
            actor.leave(Leaving.IDLE)

    # ---- what was found

    async def _attend(self) -> bool:
        """Read once and answer it all; whether there is more."""
        actor = self._actor
        store, tx = actor.around.store, actor.tx
        known = actor.history.number  # commits may be done while the answer is on its way
        work = await persist(lambda: store.read_work(tx, actor.last_seen, _BATCH))
        if isinstance(work, t.Missing) or work.epoch != actor.grant.epoch:
            await actor.history.quiet()  # it may be our own commit that ended it, whose answer is still on its way
            actor.leave(Leaving.GONE)
            return False
        if work.number < known or work.lost:
            actor.log.warning("Redis lost writes: going on from what survived")
            actor.leave(Leaving.HANDED_OVER)
            return False
        if work.cancel is not None:
            actor.note_cancel(work.cancel)
        self._next_change_s = None if work.next_change_ms is None else now_s() + work.next_change_ms / 1000
        told = dict(work.told)
        changes = {change.session: change for change in work.changes}
        told_any = False
        for entry in work.incoming:
            told_any |= await self._attend_to(entry, told, changes)
            actor.last_seen = entry.id
        actor.looked.set()
        # Changes after all the messages: a message from an earlier place than the present one was stored before it.
        if not work.more:
            for change in work.changes:
                told_any |= await self._change(change, told)
        return work.more or told_any

    async def _attend_to(
        self, entry: t.Incoming, told: dict[PublicName, str | None], changes: dict[PublicName, t.SessionChange]
    ) -> bool:
        """Answer one entry of the inbox; whether the State was told of a connection."""
        match entry:
            case t.FiredTimer():
                await self._timer(entry)
            case t.ChildEnd():
                await take_end(self._actor, entry)
            case t.InboxEntry() if "on_update" in self._actor.hooks:
                return await self._message(entry, told, changes)
            case t.InboxEntry() if "run" in self._actor.hooks and not self._actor.history.run_returned:
                self._actor.mail.append(entry.id)
                self._actor.stir()
        return False

    async def _timer(self, entry: t.FiredTimer) -> None:
        """Call `on_timer`, unless the timer was cancelled or set anew since. One that fails has been handled."""
        name = timer_name(entry.member)

        def answer(turn: Turn) -> None:
            turn.consumed.append(entry.id)
            turn.over.append(entry.member)

        if entry.member in self._actor.history.timers and "on_timer" in self._actor.hooks:
            await handle(self._actor, Handling("on_timer", (name,), entry_scope(entry.id), answer, name=name))
        else:
            await self._actor.commit_aside(Turn(consumed=[entry.id], over=[entry.member]))

    async def _message(
        self, entry: t.InboxEntry, told: dict[PublicName, str | None], changes: dict[PublicName, t.SessionChange]
    ) -> bool:
        """Answer a message, its session's connection before it; whether the State was told of that."""
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
        actor = self._actor

        def answer(turn: Turn) -> None:
            turn.consumed.append(entry.id)
            if actor.around.alone:
                turn.note = ""

        def refuse(turn: Turn, code: str, text: str) -> None:
            if entry.session is not None and entry.mid is not None:
                turn.entries.append(t.NewRefusal(entry.session, entry.mid, code, text))

        if entry.session is not None and entry.session in self._barred:
            turn = Turn()
            answer(turn)
            refuse(turn, "forbidden", self._barred[entry.session])
            await actor.commit_aside(turn)
            return
        if entry.id == actor.poison:
            actor.log.error("a message is refused: the processes that handled it were lost", entry=entry.id)
            turn = Turn(gave_up=True)
            answer(turn)
            refuse(turn, "state_error", _KILLED)
            await actor.commit_aside(turn)
            return
        if actor.around.alone:  # should this process be lost, the next one knows by which message
            await actor.commit_aside(Turn(note=entry.id))
        connection = ActorConnection(actor, entry.session, True, entry.subject)
        args = (connection, unpack(entry.data))
        await handle(actor, Handling("on_update", args, entry_scope(entry.id), answer, refuse))

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
            await handle(self._actor, Handling(hook, (connection,), scope, answer))
        else:
            turn = Turn()
            answer(turn)
            await self._actor.commit_aside(turn)
