"""What one grant writes: one commit after another, never two different ones under the same number.

After an unknown outcome the equal commit is sent again, and nothing else, until the store has answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from orbit.protocol.cursors import Cursor
from orbit.state import Unloaded
from orbit.store import types as t
from orbit.store.store import Store
from orbit.worker.lease import Lease, now_s, own_deadline_s
from orbit.worker.metrics import Metrics
from orbit.worker.scopes import sleep_member, wait_member
from orbit.worker.settling import BROKEN, Backoff, settled
from orbit.worker.turn import NO_FIELDS, Base, Fields, Turn, to_commit


@dataclass(frozen=True, slots=True)
class Listener:
    """What the history tells its actor, in the loop."""

    on_refused: Callable[[t.CommitAnswer], None]
    on_broken: Callable[[Exception], None]
    on_ending: Callable[[], None]
    on_ended: Callable[[], None]
    on_cancel: Callable[[str], None]
    on_unread: Callable[[], None]
    on_outbox: Callable[[], None]


class History:
    """One transaction's commits under one epoch.

    Attributes:
        names: What is recorded under names.
        updates / snapshot_at / view_at: Entries since the grant began: in all, up to the newest snapshot, and view.
        committed: The fields as of the last commit, encoded.
        stored: The newest snapshot in Redis: `committed`, but before the first one the input as it came.
        timers: By member, when: seconds by our own clock, None for one that stands in the inbox.
        children: The outbox's fields of children whose end hasn't been taken.
    """

    def __init__(
        self, store: Store, grant: t.Grant, loaded: t.Loaded, lease: Lease, listener: Listener, lease_s: float,
        metrics: Metrics, version: int | None = None,
    ) -> None:  # fmt: skip
        """`version`: of the snapshots that are written; the grant's, unless told (it was migrated)."""
        self._store = store
        self._grant = grant
        self._lease = lease
        self._listener = listener
        self._lease_s = lease_s
        self._metrics = metrics
        self._version = grant.spec.version if version is None else version
        self._lock = asyncio.Lock()
        self._shut = False
        self._dropped = False
        self.number = loaded.number
        self.head: Cursor = loaded.head
        self.names = dict(loaded.names)
        self.attempts = loaded.attempts
        self.passes = loaded.passes
        self.run_returned = loaded.run_returned
        self.committed = self.stored = loaded.snapshot.fields
        loaded_s = now_s()
        self.timers = {member: None if ms is None else loaded_s + ms / 1000 for member, ms in loaded.timers.items()}
        self.children = set(loaded.children)
        self.updates = 0
        view_seq = loaded.view_head.seq if loaded.view_head else 0
        self.snapshot_at = loaded.snapshot.head.seq - loaded.head.seq
        self.view_at = view_seq - loaded.head.seq

    @property
    def open(self) -> bool:
        """Whether commits are still possible."""
        return not self._shut

    def shut(self) -> None:
        """Write nothing more; what is under way is settled."""
        self._shut = True

    def drop(self) -> None:
        """Write nothing more, and leave what is under way to its fate."""
        self._shut = self._dropped = True

    async def quiet(self) -> None:
        """Until what is being written now is settled, and its listener told."""
        async with self._lock:
            pass

    def rebuilt(self, fields: bytes) -> None:
        """The fields were rebuilt from `committed`, and `fields` is how they are written now: the
        same, though a set may have come back in another order."""
        if self.stored == self.committed:
            self.stored = fields
        self.committed = fields

    async def commit(self, turn: Turn, plan: Callable[[], Fields] = lambda: NO_FIELDS) -> None:
        """Write `turn`, after those before it. Returns when it is written; with nothing to write, at once.

        `plan` is asked for the fields when all commits before are done. A cancellation is raised after the commit was
        settled: it may be done.

        Raises:
            Unloaded: The store refused, or the history is shut. Nothing of this turn was written.
        """
        await settled(self._commit(turn, plan))

    async def _commit(self, turn: Turn, plan: Callable[[], Fields]) -> None:
        async with self._lock:
            if self._shut:
                raise Unloaded("this worker no longer runs the transaction")
            fields = plan()
            turn.over += [member for key in turn.forgotten for member in self._times_of(key)]
            commit = to_commit(self._base(), turn, fields, self._wanted_lease_ms())
            if commit is None:
                return
            if commit.end is not None:
                self._listener.on_ending()
            asked_s = now_s()
            self._lease.settling = True
            try:
                answer = await self._answer(commit)
            except Exception as error:
                # Whether it was written nobody knows: another one under this number would make two histories.
                self._shut = True
                self._listener.on_broken(error)
                raise Unloaded("the transaction goes on elsewhere: this commit failed") from error
            finally:
                self._lease.settling = False
            self._metrics.commits[type(answer).__name__.lower()].inc()
            if not isinstance(answer, t.Done | t.Repeated):
                self._shut = True
                self._listener.on_refused(answer)
                raise Unloaded("the transaction goes on elsewhere: this commit was refused")
            self._apply(commit, turn, fields, answer, asked_s)
            if commit.lease_ms:
                self._lease.extend(own_deadline_s(asked_s, self._lease_s))
        self._tell(commit, answer)

    def _base(self) -> Base:
        return Base(self._grant.tx, self._grant.epoch, self.number, self._version)

    def _wanted_lease_ms(self) -> int:
        """Extended along with a commit when a third of it is gone, so that a busy transaction needs no renewals."""
        left_s = self._lease.deadline_s - now_s()
        return int(self._lease_s * 1000) if left_s < 0.6 * self._lease_s else 0

    async def _answer(self, commit: t.Commit) -> t.CommitAnswer:
        backoff = Backoff()
        while True:
            with self._metrics.turn_s.time():
                try:
                    return await self._store.commit(commit)
                except BROKEN:
                    self._metrics.resent.inc()
            await asyncio.sleep(backoff.next_s())
            if self._dropped:
                raise Unloaded("this worker no longer runs the transaction")

    def _times_of(self, key: str) -> list[str]:
        """The members of what waits under a name."""
        return [member for member in (sleep_member(key), wait_member(key)) if member in self.timers]

    def _apply(
        self, commit: t.Commit, turn: Turn, fields: Fields, answer: t.Done | t.Repeated, asked_s: float
    ) -> None:
        self.number = self._lease.number = answer.number
        self.head = answer.head
        self.names.update(turn.names)
        for key in turn.forgotten:
            self.names.pop(key, None)
        for member in commit.dropped_timers:
            self.timers.pop(member, None)
        for member, ms in commit.timers:
            self.timers[member] = asked_s + ms / 1000
        self.children.difference_update(turn.taken)
        self.children.update(turn.outbox)
        self.updates += turn.updates
        if fields.changed is not None:
            self.committed = fields.changed
        if commit.snapshot is not None:
            self.stored = commit.snapshot
            self.snapshot_at = self.updates
        if commit.view is not None:
            self.view_at = self.updates
        if commit.progressed:
            self.attempts = 0
        self.attempts = self.attempts if turn.attempts is None else turn.attempts
        self.passes = self.passes if turn.passes is None else turn.passes
        self.run_returned = self.run_returned if turn.run_returned is None else turn.run_returned

    def _tell(self, commit: t.Commit, answer: t.Done | t.Repeated) -> None:
        if commit.outbox:
            self._listener.on_outbox()
        if commit.end is not None:
            self._shut = True
            self._listener.on_ended()
            return
        if answer.cancel is not None:
            self._listener.on_cancel(answer.cancel)
        if answer.unread:
            self._listener.on_unread()
