"""Commits: the only way that a worker writes."""

from __future__ import annotations

from collections.abc import Sequence

from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart, milliseconds
from orbit.store.link import Argument


class Commits(StorePart):
    """What a turn did, all or nothing."""

    async def commit(self, commit: t.Commit) -> t.CommitAnswer:
        """Write all that a turn did, or nothing, if its grant is still the newest and Redis lost nothing.

        Raises:
            Overloaded: Redis is full; nothing was written.
            Unavailable: Nothing was written.
            OutcomeUnknown: It may be written or not. Committing an equal value again is safe, and finds out.

        Cancellation: as OutcomeUnknown. Atomic in `commit.lua`.
        """
        settings = self.settings
        reply = await self._link.run(
            script.COMMIT, self._keys.both(commit.tx),
            *encode(commit, settings.snapshots_kept, milliseconds(settings.grace_s)),
        )
        return decode.committed(reply)


def encode(commit: t.Commit, snapshots_kept: int, grace_ms: int) -> list[Argument]:
    """The arguments of `commit.lua`: the same for an equal value."""
    counts = (commit.attempts, commit.run_returned, commit.passes)
    arguments: list[Argument] = [
        commit.tx, commit.epoch, commit.number, commit.lease_ms, snapshots_kept, grace_ms,
        commit.snapshot or b"", commit.version, commit.view or b"", "1" if commit.progressed else "",
        *("" if count is None else int(count) for count in counts),
        "" if commit.note is None else f"={commit.note}",
        *_end(commit.end),
    ]
    lists: tuple[Sequence[Sequence[Argument]], ...] = (
        [_entry(entry) for entry in commit.entries],
        [(entry_id,) for entry_id in commit.consumed],
        commit.names,
        [(name,) for name in commit.forgotten],
        commit.told,
        commit.barred,
        commit.timers,
        [(member,) for member in commit.dropped_timers],
        commit.outbox,
        [(field,) for field in commit.taken],
    )
    for items in lists:
        arguments.append(len(items))
        for item in items:
            arguments.extend(item)
    return arguments


def _end(end: t.NewEnd | None) -> tuple[Argument, ...]:
    if end is None:
        return ("",) * 5
    error = (end.error.type, end.error.message) if end.error else ("", "")
    return (end.status, end.result or b"", *error, end.trace or "")


def _entry(entry: t.NewUpdate | t.NewRefusal) -> tuple[Argument, ...]:
    if isinstance(entry, t.NewUpdate):
        return ("u", entry.session or "", "", "", "", entry.data)
    return ("r", entry.session, entry.mid, entry.code, entry.message, b"")
