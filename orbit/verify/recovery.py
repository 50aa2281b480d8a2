"""How long after each fault everybody got something new. Plain values; time comes in as an argument."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import median

Key = tuple[str, str]
"""A follower: its client's name, and its transaction."""


@dataclass(slots=True)
class Wait:
    """One fault, and who has had no update since it began. `took_s` once all had one."""

    fault: str
    began_s: float
    pending: set[Key]
    took_s: float | None = None


@dataclass(slots=True)
class Recovery:
    """All faults of a run, and who waits for an update since which of them."""

    waits: list[Wait] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def begin(self, fault: str, at_s: float, followers: Collection[Key]) -> Wait:
        """A fault begins now; these should go on getting updates."""
        wait = Wait(fault, at_s, set(followers), None if followers else 0.0)
        self.waits.append(wait)
        return wait

    def heard(self, follower: Key, at_s: float) -> list[Wait]:
        """It got an update. Returns the faults that are over for everybody with that."""
        over = []
        for wait in self.waits:
            if wait.took_s is None and (follower in wait.pending or not wait.pending):
                wait.pending.discard(follower)
                if not wait.pending:
                    wait.took_s = at_s - wait.began_s
                    over.append(wait)
        return over

    def forget(self, client: str) -> None:
        """It leaves of its own will: nobody waits for what it gets next."""
        for wait in self.waits:
            if wait.took_s is None:
                wait.pending = {follower for follower in wait.pending if follower[0] != client}

    def skip(self, fault: str) -> None:
        """It couldn't be done: everything that it could be done to was disturbed already."""
        self.skipped[fault] = self.skipped.get(fault, 0) + 1

    def count(self, fault: str) -> int:
        """How often it was done."""
        return sum(wait.fault == fault for wait in self.waits)

    def times_s(self, fault: str) -> tuple[float, float] | None:
        """The median and the longest recovery; None where there is none."""
        took = [wait.took_s for wait in self.waits if wait.fault == fault and wait.took_s is not None]
        return (median(took), max(took)) if took else None
