"""One transaction under one grant: who has its turn, how a turn ends, and how all of it is taken down.

The turn is a lock: `run` and the handlers take it by turns, first come first served. Whoever has it may run the State's
code and change its fields; it gives it away only after a commit or a rollback.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from orbit.errors import TooLarge, UsageError
from orbit.protocol.ids import InboxId, TxId
from orbit.protocol.values import pack
from orbit.state import State, Unloaded, become, encode, hooks_of, largest, rebuild
from orbit.store import types as t
from orbit.worker.frames import Frame, current_frame
from orbit.worker.history import History
from orbit.worker.lease import Lease, now_s
from orbit.worker.surroundings import Leaving, Surroundings
from orbit.worker.threads import Threads
from orbit.worker.turn import NO_FIELDS, Fields, Turn

T = TypeVar("T")

_KNOCKS, _KNOCK_S = 20, 0.1
REST, PERMIT, LATE = "r", "p", "x"
"""Timers: the pause before the next attempt of `run`; when a permit is asked for again; the end of `timeout_s`."""
PERMIT_AGAIN_S = 30.0

log = structlog.get_logger("orbit.worker")


def _nothing() -> None:
    """Whoever is to be told isn't there yet."""


async def _breathe() -> None:
    await asyncio.sleep(0)


_TRACE = 16_000


def trace_of(error: BaseException) -> str:
    """The traceback that is kept with a transaction that failed: its end, where it is long."""
    return "".join(traceback.format_exception(error))[-_TRACE:]


def reasons(error: ValidationError) -> str:
    """Fields and reasons, without the values."""
    found = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, part['loc'])) or 'input'}: {part['msg']}" for part in found[:20])


@dataclass(frozen=True, slots=True)
class Pause:
    """`run` waits for something else than its turn.

    Attributes:
        until_s: At the latest until then.
        over: Whether what it waits for is there already, though `run` hasn't gone on yet.
        held: It waits in a thread, which stays.
        limit: The limit whose permit it waits for.
    """

    until_s: float | None
    over: Callable[[], bool]
    held: bool = False
    limit: str | None = None


class Actor:
    """One transaction while this worker holds it.

    Attributes:
        cls / state: The State's class, and the object that the hooks run on.
        turn: What whoever has the turn did so far.
        last_seen: The newest inbox entry that was read.
        look: Set where something may wait in the inbox.
        attended / attending: Whether its inbox is looked after / what was read there is being answered.
        rest_s: With RESTING: how long.
        pause: What `run` waits for.
        mail / looked: Messages for `wait_message`, by their place in the inbox / set once that was read.
        stirred: Set where what it waits for may be there: a message in `mail`, the end of a child, a permit.
        steps: How many steps run now.
        poison: The message that is refused, since it cost its workers again and again.
        late_s: When the transaction is to have ended, by its `timeout_s`.
        permit: The limit of which it holds a permit, or waits for one.
        tasks: What it runs; those that unwind slowly outlast its life.
        patient: What can't be stopped (a thread) is waited for, so that its work isn't done twice.
    """

    def __init__(self, around: Surroundings, cls: type[State], grant: t.Grant, lease: Lease) -> None:
        self.around = around
        self.cls = cls
        self.hooks = hooks_of(cls)
        self.options = cls.__orbit__
        self.grant = grant
        self.lease = lease
        self.threads = Threads()
        self.turn = Turn()
        self.last_seen: InboxId | None = None
        self.look = asyncio.Event()
        if not grant.quiet:
            self.look.set()
        self.attended = self.attending = False
        self.left = asyncio.Event()
        self.released = asyncio.Event()
        self.leaving: Leaving | None = None
        self.rest_s = 0.0
        self.resting_until_s: float | None = None
        self.running = False
        self.pause: Pause | None = None
        self.stirred = asyncio.Event()
        self.mail: deque[InboxId] = deque()
        self.looked = asyncio.Event()
        if grant.quiet:
            self.looked.set()
        self.steps = 0
        self.touched = False
        self.late_s: float | None = None
        self.permit: t.Limit | None = None
        self.parent: t.Parent | None = None
        self.lineage = grant.spec.state
        self.priority = 0
        self.cancel_reason: str | None = None
        self.poison: InboxId | None = None
        self.patient = False
        self.hurried = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.cancelling = False
        self.history: History
        self.state: State
        self._lock = asyncio.Lock()
        self._knocks = 0
        self._abandoned = False
        self.on_look: Callable[[], None] = _nothing
        self.on_cancelling: Callable[[], None] = _nothing
        self.on_ending: Callable[[], None] = _nothing
        self._holder: asyncio.Task[Any] | None = None
        self._held_since_s = 0.0

    @cached_property
    def log(self) -> Any:
        """A logger that names the transaction."""
        return log.bind(tx=self.grant.tx, state=self.grant.spec.state, epoch=self.grant.epoch)

    @property
    def tx(self) -> TxId:
        return self.grant.tx

    @property
    def closing(self) -> bool:
        return self.leaving is not None

    def leave(self, why: Leaving, rest_s: float = 0.0) -> None:
        """Decide, once, that the transaction leaves; what it runs is taken down by its life."""
        if self.leaving is None:
            self.leaving = why
            self.rest_s = rest_s
            self.lease.give_up()
            self.left.set()

    async def begin_verb(self) -> None:
        """Raise Unloaded where the transaction is about to leave: no verb begins any more.

        A hook that swallows that and tries again for ever is slowed down, so that it blocks no other.
        """
        if self.closing:
            self._knocks += 1
            await asyncio.sleep(0 if self._knocks < _KNOCKS else _KNOCK_S)
            raise Unloaded("this worker no longer runs the transaction")

    # ---- the turn

    async def take(self) -> None:
        """Take the turn. A cancellation is raised only once it is taken: no code runs beside another's turn."""
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                await self._lock.acquire()
                break
            except asyncio.CancelledError as error:
                if self._abandoned:  # nobody gives it away any more
                    raise
                cancelled = error
        while self.lease.lapsed and not self.closing:
            try:
                await self.lease.confirmed()
            except asyncio.CancelledError as error:
                cancelled = error
        self._begin_turn()
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # it holds this frame, by its traceback

    async def take_within(self, patience_s: float) -> bool:
        """Take the turn, unless that takes too long."""
        try:
            async with asyncio.timeout(patience_s):
                await self._lock.acquire()
        except TimeoutError:
            return False
        self._begin_turn()
        return True

    def _begin_turn(self) -> None:
        self.turn = Turn()
        self._holder, self._held_since_s = asyncio.current_task(), now_s()
        self.limit_turn(current_frame.get(), self.options.turn_timeout_s)
        if self.steps and self._changed():
            self.touched = True
            self.roll_back()

    def _changed(self) -> bool:
        """Whether the fields aren't those of the last commit; some that can't be written down aren't."""
        try:
            return encode(self.state) != self.history.committed
        except UsageError:
            return True

    def give(self) -> None:
        """Give the turn away: first to whoever waited longest."""
        if self._abandoned:
            return
        self._holder = None
        self.limit_turn(current_frame.get(), None)
        self._lock.release()

    def limit_turn(self, frame: Frame | None, seconds: float | None) -> None:
        """From now on the frame's code may hold the turn for so long; None: it doesn't hold it."""
        if frame is None or frame.limit is None or frame.limit.expired():
            return
        frame.limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def held_long(self) -> tuple[asyncio.Task[Any], float] | None:
        """Who holds the turn, and for how many seconds, the first time that it is seen to hold it for long."""
        held_s = now_s() - self._held_since_s
        if self._holder is None or held_s < self.around.long_turn_s:
            return None
        holder, self._holder = self._holder, None
        return holder, held_s

    async def without_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` while others have their turns. However it ends, the turn is taken again before anything else."""
        self.give()
        try:
            return await work()
        finally:
            await self.take()

    async def end_turn(self) -> None:
        """Commit, let the others have their turns, and begin the next one."""
        await self.commit_turn()
        await self.pass_turn()

    async def pass_turn(self) -> None:
        await self.without_turn(_breathe)

    async def commit_turn(self) -> None:
        """Commit what the turn did, fields included, or roll it back and raise.

        Raises:
            UsageError, TooLarge: The fields can't be written down, or are too large.
            Unloaded: Refused.
        """
        turn, self.turn = self.turn, Turn()
        try:
            fields = self._fields_of(turn)
        except Exception:
            self.roll_back()
            raise
        if turn.empty and fields == NO_FIELDS and self.history.open:
            return
        try:
            await self.history.commit(turn, lambda: fields)
        finally:
            if self.around.rebuild_always and fields.changed == self.history.committed:
                self._rebuild()

    async def commit_aside(self, turn: Turn) -> None:
        """Commit without the fields: what a step did. The turn isn't needed."""

        def plan() -> Fields:
            committed = self.history.committed
            wanted = committed != self.history.stored or self._is_due(turn)
            return Fields(None, committed if wanted else None, self._view_of(turn, committed))

        await self.history.commit(turn, plan)

    def roll_back(self) -> None:
        """Forget what the turn did: the fields are those of the last commit."""
        self.turn = Turn()
        self._rebuild()

    def _rebuild(self) -> None:
        become(self.state, rebuild(self.cls, self.history.committed))
        with contextlib.suppress(UsageError):  # a serializer's own fault, which the next commit tells
            self.history.rebuilt(encode(self.state))

    @property
    def dirty(self) -> bool:
        """Whether the turn changed a field or sent anything."""
        return self.turn.sent or encode(self.state) != self.history.committed

    def _fields_of(self, turn: Turn) -> Fields:
        encoded = encode(self.state)
        changed = encoded != self.history.committed
        if changed:
            self._check(encoded)
        wanted = encoded != self.history.stored or self._is_due(turn)
        return Fields(encoded if changed else None, encoded if wanted else None, self._view_of(turn, encoded))

    def _check(self, encoded: bytes) -> None:
        """A snapshot that can't be rebuilt would be the transaction's end at its next owner."""
        limit = self.around.limits.snapshot_bytes
        if len(encoded) > limit:
            name, size = largest(encoded)
            raise TooLarge(
                f"{self.cls.__name__}.{name} takes {size} bytes of {len(encoded)}; the limit of all fields is {limit}:"
                " keep what is large elsewhere, and in the field where it is"
            )
        try:
            rebuild(self.cls, encoded)
        except ValidationError as error:
            raise UsageError(f"{self.cls.__name__}: its fields can't be rebuilt: {reasons(error)}") from None

    def _quarter(self) -> int:
        return max(1, self.options.keep_updates // 4)

    def _is_due(self, turn: Turn) -> bool:
        return self.history.updates + turn.updates - self.history.snapshot_at >= self._quarter()

    def _view_of(self, turn: Turn, encoded: bytes) -> bytes | None:
        """The view as of a commit, where it is time for one; made on fields of its own, so it can change none."""
        if "view" not in self.hooks or self.history.updates + turn.updates - self.history.view_at < self._quarter():
            return None
        try:
            view: Callable[[], Any] = rebuild(self.cls, encoded).view  # type: ignore[attr-defined]
            return pack(view(), limit_bytes=self.around.limits.snapshot_bytes, what="view")
        except Exception:
            self.failed("view")
            return None

    # ---- the State's code

    def failed(self, hook: str) -> None:
        """Log the exception of a hook that is being handled; from now on it says where it was raised."""
        error, place = sys.exception(), f"in {hook} of State {self.grant.spec.state}, transaction {self.tx}"
        if error is not None and place not in getattr(error, "__notes__", ()):
            error.add_note(place)
        self.around.metrics.failures.labels(self.grant.spec.state, hook).inc()
        self.log.exception("a hook raised", hook=hook)

    def hook(self, name: str) -> Callable[..., Any]:
        return getattr(self.state, name)  # type: ignore[no-any-return]

    # ---- what the world tells it

    def note_cancel(self, reason: str = "") -> None:
        self.cancel_reason = self.cancel_reason or reason
        self.cancelling = True
        self.on_cancelling()

    def nudge(self) -> None:
        """Something may wait for it."""
        self.look.set()
        self.on_look()

    def stir(self) -> None:
        """What `run` waits for may be there."""
        self.stirred.set()

    @property
    def long_pause_s(self) -> float:
        """How much longer `run` waits, where that is worth a sleep of the whole transaction; else 0.

        What has come already may have been read from the inbox, so that nothing at the server would wake it again.
        """
        pause = self.pause
        if pause is None or pause.held or pause.over():
            return 0.0
        left_s = float("inf") if pause.until_s is None else pause.until_s - now_s()
        return left_s if left_s > self.around.long_pause_s else 0.0

    def wake_timers(self) -> list[tuple[str, int]]:
        """Times at which it must wake, beside those in its history, should it be put to sleep now: member and ms."""
        found = []
        if self.leaving is Leaving.RESTING:
            found.append((REST, int(self.rest_s * 1000)))
        if self.leaving is Leaving.WAITING:
            found.append((PERMIT, int(PERMIT_AGAIN_S * 1000)))
        if self.late_s is not None and self.leaving in (Leaving.IDLE, Leaving.RESTING, Leaving.WAITING):
            found.append((LATE, max(0, int((self.late_s - now_s()) * 1000))))
        return found

    def hurry(self) -> None:
        """Don't linger when there is nothing to do."""
        if not self.hurried:
            self.hurried = True
            if self.attended:
                self.nudge()

    def unload(self) -> None:
        """Hand it over at its last commit. A pause before the next attempt of `run` goes on elsewhere."""
        self.patient = True
        if self.resting_until_s is not None:
            self.leave(Leaving.RESTING, max(0.0, self.resting_until_s - now_s()))
        else:
            self.leave(Leaving.HANDED_OVER)

    def note_unread(self) -> None:
        """A commit found messages: read them, unless they are being handled right now."""
        if not self.attending and "on_update" in self.hooks:
            self.nudge()

    def note_refused(self, answer: t.CommitAnswer) -> None:
        self.log.warning("commit refused", answer=type(answer).__name__.lower())
        self.leave(Leaving.HANDED_OVER)

    def note_broken(self, error: Exception) -> None:
        self.log.error("a commit failed", exc_info=error)
        self.leave(Leaving.RESTING, 1.0)

    def note_ending(self) -> None:
        """Its end is on its way."""
        self.on_ending()

    def note_ended(self) -> None:
        if self.parent is not None or self.history.children:
            self.around.deliver(self.tx)
        self.leave(Leaving.ENDED)

    def abandon(self) -> None:
        """As if the process were lost: its code stands where it stood, and whoever has the turn keeps it for ever."""
        self._abandoned = True
        self.note_lost()

    def note_lost(self) -> None:
        """A renewal found it lost: even what is under way is left to its fate."""
        self.leave(Leaving.GONE)
        self._drop_history()

    def note_lapsed(self) -> None:
        """Nobody confirms that it is still held: it is stopped, and released where it is."""
        self.leave(Leaving.LAPSED)
        self._drop_history()

    def part(self) -> None:
        """Let go of what leads back to it, once nothing of it runs any more: it is free without a collection."""
        self.on_look = self.on_cancelling = self.on_ending = _nothing
        if hasattr(self, "state"):
            del self.state
        if hasattr(self, "history"):
            del self.history

    def _drop_history(self) -> None:
        if hasattr(self, "history"):
            self.history.drop()
