"""Who takes what first, decided by each worker alone: rendezvous hashing over those that fit."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from orbit.store.types import Spec, WorkerRecord


def rank_of(me: str, others: Iterable[str], key: str) -> int:
    """How many of `others` come before `me` for `key`. Every worker that knows the same ones agrees."""
    mine = _score(me, key)
    return sum(1 for other in others if other != me and (_score(other, key), other) > (mine, me))


def _score(worker: str, key: str) -> bytes:
    return blake2b(f"{worker}\0{key}".encode(), digest_size=8).digest()


class Ranks:
    """This worker's ranks among those that are known to live now; remembered until that changes."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._workers: tuple[WorkerRecord, ...] = ()
        self._known: dict[tuple[int, Spec | None], int] = {}

    @property
    def workers(self) -> int:
        """How many live, this one included."""
        return len({record.id for record in self._workers} | {self._me})

    def learn(self, workers: Iterable[WorkerRecord]) -> bool:
        """Take note of who lives and has room; whether the living are others than before."""
        after = tuple(sorted(workers, key=lambda record: record.id))
        changed = {record.id for record in after} != {record.id for record in self._workers}
        if after != self._workers:
            self._workers = after
            self._known.clear()
        return changed

    def for_claim(self, partition: int, spec: Spec) -> int:
        """Among those that run `spec` and have room."""
        return self._rank(partition, spec)

    def first_for_any(self, partition: int, specs: Iterable[Spec]) -> bool:
        """Whether it ranks first there for any of `specs`."""
        return any(self.for_claim(partition, spec) == 0 for spec in specs)

    def for_care(self, partition: int) -> int:
        """Among all: who looks after a partition's timers."""
        return self._rank(partition, None)

    def _rank(self, partition: int, spec: Spec | None) -> int:
        rank = self._known.get((partition, spec))
        if rank is None:
            fit = (r.id for r in self._workers if spec is None or (spec in r.specs and r.room > 0))
            rank = self._known[partition, spec] = rank_of(self._me, fit, str(partition))
        return rank
