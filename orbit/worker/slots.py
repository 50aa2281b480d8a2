"""The transactions that a worker holds, from grant to release."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import structlog

from orbit.errors import OutcomeUnknown
from orbit.protocol.ids import TxId
from orbit.state import State
from orbit.store import types as t
from orbit.worker.actor import Actor
from orbit.worker.config import WorkerConfig
from orbit.worker.isolation import STARTS_AT_ONCE, Lent, Loan
from orbit.worker.lease import Lease, own_deadline_s
from orbit.worker.life import live
from orbit.worker.permits import give_back
from orbit.worker.places import waits
from orbit.worker.renewals import KeepsLeases, Renewed
from orbit.worker.settling import BROKEN, Backoff
from orbit.worker.surroundings import Leaving, Surroundings

log = structlog.get_logger("orbit.worker")

_RELEASES = 8
EARLY = 1_000
"""So many nudges are kept of transactions whose claim's answer may still be on its way."""


@dataclass(frozen=True, slots=True)
class Lending:
    """How a transaction is run in a process of its own: `settings` are those of this worker."""

    command: tuple[str, ...]
    worker: str
    settings: dict[str, Any]
    drain_s: float

    @classmethod
    def of(cls, config: WorkerConfig, worker: str) -> Lending | None:
        """None where the config names no command for it."""
        if not config.alone:
            return None
        settings: dict[str, Any] = {name: getattr(config, name) for name in LENT}
        settings |= {"limits": asdict(config.limits), "retry": asdict(config.retry)}
        return cls(config.alone, worker, settings, config.drain_s)


LENT = (
    "app", "redis", "queues", "lease_s", "drain_s", "grace_s", "linger_s", "namespace", "rebuild_always", "processes",
)  # fmt: skip
"""The settings that a process for one transaction takes over as they are."""


class Slots:
    """Room for `concurrency` transactions. One whose threads outlive it keeps its slot until they end.

    `on_room` is called when a slot is free again. What lost its workers again and again is lent to a process of its
    own, where there is `lending`.
    """

    def __init__(
        self, around: Surroundings, states: Mapping[t.Spec, type[State]], concurrency: int, renewer: KeepsLeases,
        on_room: Callable[[], None], lending: Lending | None = None,
    ) -> None:  # fmt: skip
        self._lending = lending
        self._told_to_drain = asyncio.Event()
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._lent: dict[asyncio.Task[None], Lent] = {}
        self._hurried = False
        self._early: dict[TxId, str] = {}
        self._around = around
        self._states = states
        self._concurrency = concurrency
        self._renewer = renewer
        self._on_room = on_room
        self._actors: dict[TxId, Actor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: set[Actor] = set()
        self._draining = False
        self._drop = asyncio.Event()
        self._context = copy_context()
        around.metrics.running.set_function(lambda: len(self._tasks))
        around.metrics.room.set_function(lambda: self.room)

    @property
    def room(self) -> int:
        """How many more may run. Those whose end is on its way run no more; so many again of them there may be."""
        if self._draining:
            return 0
        return self._concurrency - len(self._tasks) + min(len(self._ending), self._concurrency)

    def grant(self, grant: t.Grant, asked_s: float) -> None:
        """Run a transaction that was claimed."""
        self._around.metrics.claimed["true" if grant.crashed else "false"].inc()
        lease = Lease(grant.tx, grant.epoch, grant.number, own_deadline_s(asked_s, self._around.lease_s))
        crashes = self._around.crashes
        if self._lending is not None and crashes.alone <= grant.crashes < crashes.hopeless:
            self._lend(self._lending, grant, lease)
            return
        before = self._actors.get(grant.tx)
        if before is not None:
            before.note_lost()
        actor = self._actors[grant.tx] = Actor(self._around, self._states[grant.spec], grant, lease)
        actor.on_ending = partial(self._note_ending, actor)
        self._renewer.add(lease)
        if self._draining:
            actor.unload()
        early = self._early.pop(grant.tx, None)
        if early is not None:
            self.nudge(t.OwnerNudge(grant.tx, early))
        if self._hurried:
            actor.hurry()
        self._take(self._hold(actor))

    def _lend(self, lending: Lending, grant: t.Grant, lease: Lease) -> None:
        lent = Lent(Loan(lending.worker, replace(grant, loaded=None), lending.settings), lease, self._renewer)
        task = self._take(self._lend_out(lending, lent))
        self._lent[task] = lent
        task.add_done_callback(self._lent.pop)

    async def _lend_out(self, lending: Lending, lent: Lent) -> None:
        if not await lent.live(lending.command, self._starting, self._told_to_drain, lending.drain_s):
            grant = lent.loan.grant
            await self._give_up(
                lambda: self._around.store.release(grant.tx, grant.epoch, grant.number, None, idle=False),
                grant.tx,
                range(_RELEASES),
            )

    def _take(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin it in the worker's own context: room may have been made by the code of another transaction."""
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._free)
        return task

    def nudge(self, nudge: t.OwnerNudge) -> None:
        actor = self._actors.get(nudge.tx)
        if actor is None:
            self._early[nudge.tx] = nudge.why
            if len(self._early) > EARLY:
                del self._early[next(iter(self._early))]
            return
        if nudge.why == "cancel":
            actor.note_cancel()
        elif nudge.why == "permit":
            actor.stir()
        else:
            actor.nudge()

    def renewed(self, found: Renewed) -> None:
        for lease in found.lost:
            actor = self._actors.get(lease.tx)
            if actor is not None and actor.lease is lease:
                if actor.leaving is not Leaving.LAPSED:
                    self._around.metrics.lost.inc()
                    actor.log.warning("lease lost")
                actor.note_lost()
        gone = {*found.lost, *found.lapsed}
        for lent in self._lent.values():
            if lent.lease in gone:
                lent.lost.set()
        for lease in found.lapsed:
            actor = self._actors.get(lease.tx)
            if actor is not None and actor.lease is lease and not actor.closing:
                self._around.metrics.lapsed.inc()
                actor.log.warning("its lease wasn't confirmed in time: it is stopped")
                actor.note_lapsed()
        for tx, actor in tuple(self._actors.items()):
            if tx in found.waiting:
                actor.nudge()
            if tx in found.cancelled:
                actor.note_cancel()

    def hurry(self) -> None:
        """Others wait for room: let those that have nothing to do go at once."""
        if not self._hurried:
            self._hurried = True
            for actor in self._actors.values():
                actor.hurry()

    def watch(self) -> None:
        """Name the code that holds a turn for long: nothing else of its transaction runs meanwhile."""
        for actor in self._actors.values():
            held = actor.held_long()
            if held is not None:
                holder, seconds = held
                place = waits(holder, actor)
                self._around.metrics.held_long.labels(actor.options.name).inc()
                actor.log.warning(
                    "a turn is held for long", seconds=round(seconds, 1), where=place.where, hook=place.hook
                )

    def nudge_all(self) -> None:
        """Something may have been missed: let each look."""
        for actor in self._actors.values():
            actor.nudge()

    def kill(self) -> list[TxId]:
        """Leave all to its fate, as a process that is lost does; what was held."""
        self._draining = True
        self._drop.set()
        held = list(self._actors)
        for actor in tuple(self._actors.values()):
            actor.abandon()
        return held

    async def drain(self, drain_s: float) -> None:
        """Hand all over at their last commits; what still runs after `drain_s` is dropped."""
        self._draining = True
        self._told_to_drain.set()
        for actor in tuple(self._actors.values()):
            actor.unload()
        if not self._actors and not self._lent:
            return
        leaving = asyncio.ensure_future(self._all_released())
        await asyncio.wait((leaving,), timeout=drain_s)
        self._drop.set()
        await asyncio.wait((leaving,), timeout=1.0)
        leaving.cancel()
        for task in self._lent:
            task.cancel()

    async def _all_released(self) -> None:
        while self._actors:
            await next(iter(self._actors.values())).released.wait()
        if self._lent:
            await asyncio.wait(self._lent)

    # ---- one transaction

    async def _hold(self, actor: Actor) -> None:
        leaving = Leaving.GONE
        try:
            leaving = await live(actor, self._drop)
        except Exception:
            actor.log.exception("a defect of the worker's")
            leaving = Leaving.RESTING
            actor.rest_s = 1.0
        finally:
            self._around.metrics.released[leaving.value].inc()
            try:
                # Before the release: who takes it over then asks anew. A hand-over keeps its permit, one that waits its
                # place; and the permit of what is held elsewhere by now isn't ours to give any more.
                if leaving not in (Leaving.HANDED_OVER, Leaving.WAITING, Leaving.GONE, Leaving.LAPSED):
                    await self._give_back(actor)
                await self._release(actor, leaving)
            finally:
                self._forget(actor)
                actor.released.set()
        if actor.tasks:
            await asyncio.gather(*actor.tasks, return_exceptions=True)
        await actor.threads.none.wait()
        actor.part()

    async def _give_back(self, actor: Actor) -> None:
        """The permit, to those who wait for it; where Redis doesn't answer it runs out by itself."""
        if actor.permit is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._around.lease_s):
                await give_back(actor)

    def _note_ending(self, actor: Actor) -> None:
        if not actor.threads.alive:
            self._ending.add(actor)
            self._on_room()

    def _forget(self, actor: Actor) -> None:
        self._ending.discard(actor)
        self._renewer.remove(actor.lease)
        if self._actors.get(actor.tx) is actor:
            del self._actors[actor.tx]

    async def _release(self, actor: Actor, leaving: Leaving) -> None:
        """Give back what is still held. If Redis doesn't answer for some seconds, the lease runs out by itself.

        One that has lapsed has run out, or soon will: Redis is asked until it answers, so that whoever goes on with it
        takes it for handed over, not for crashed.
        """
        if leaving in (Leaving.ENDED, Leaving.GONE):
            return
        await self._give_up(
            lambda: self._around.store.release(
                actor.tx,
                actor.grant.epoch,
                actor.history.number if hasattr(actor, "history") else actor.grant.number,
                actor.last_seen,
                idle=leaving in (Leaving.IDLE, Leaving.RESTING, Leaving.WAITING),
                waits_for=actor.permit.name if leaving is Leaving.WAITING and actor.permit is not None else None,
                timers=actor.wake_timers(),
            ),
            actor.tx,
            itertools.count() if leaving is Leaving.LAPSED else range(_RELEASES),
        )

    async def _give_up(self, release: Callable[[], Awaitable[object]], tx: TxId, tries: Iterable[int]) -> None:
        backoff = Backoff()
        for _ in tries:
            try:
                await release()
                return
            except BROKEN:
                if self._drop.is_set():
                    return
                await asyncio.sleep(backoff.next_s())
        log.warning("not released: its lease runs out", tx=tx, error=OutcomeUnknown.__name__)

    def _free(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a transaction's task failed", exc_info=task.exception())
        self._hurried = False
        self._on_room()
