"""Who looks where, and when: whoever is dead or full, somebody comes in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orbit.store import types as t
from orbit.testing.clock import run_virtual
from orbit.worker.care import Caretaker
from orbit.worker.finding import Finder, claim_after_s
from orbit.worker.ranking import Ranks

SPEC, OTHER = t.Spec("default", "A", 1), t.Spec("default", "B", 1)
PARTITIONS = 64


def record(worker: str, room: int = 1, spec: t.Spec = SPEC) -> t.WorkerRecord:
    return t.WorkerRecord(worker, (spec,), room)


def ranks_of(me: str, *others: str) -> Ranks:
    ranks = Ranks(me)
    ranks.learn([record(me), *map(record, others)])
    return ranks


def behind(ranks: Ranks, rank: Callable[[int], int], least: int) -> int:
    """A partition where this worker ranks `least` or later."""
    return next(partition for partition in range(PARTITIONS) if rank(partition) >= least)


def test_every_rank_looks_the_later_the_further_behind_it_is() -> None:
    times = [claim_after_s(rank) for rank in range(30)]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[3] < 0.1
    assert times[13] == 10


def test_work_that_was_left_to_dead_workers_is_looked_for_within_seconds() -> None:
    """Eight workers rank before this one, and were lost without anybody knowing yet: none of them claims."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        wanted: asyncio.Queue[int] = asyncio.Queue()
        ranks = ranks_of("me", *(f"dead-{n}" for n in range(8)))
        finder = Finder(ranks, [SPEC], PARTITIONS, wanted.put_nowait)
        partition = behind(ranks, lambda p: ranks.for_claim(p, SPEC), 6)
        finder.heard(t.ReadyWake(partition, OTHER))  # nothing of ours
        finder.heard(t.ReadyWake(partition, SPEC))
        finder.heard(t.ReadyWake(partition, SPEC))
        assert await wanted.get() == partition
        at = loop.time()
        await asyncio.sleep(60)
        assert wanted.empty(), "it looks once for all that it heard"
        finder.close()
        return at

    assert 0 < run_virtual(main) <= 5


def test_the_first_in_rank_looks_at_once_and_a_better_rank_brings_a_look_forward() -> None:
    async def main() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        wanted: list[tuple[float, int]] = []
        ranks = ranks_of("me", *(f"other-{n}" for n in range(8)))
        finder = Finder(ranks, [SPEC], PARTITIONS, lambda partition: wanted.append((loop.time(), partition)))
        late = behind(ranks, lambda p: ranks.for_claim(p, SPEC), 6)
        finder.heard(t.ReadyWake(late, SPEC))
        ranks.learn([record("me"), record("other-0"), record("full", room=0)])
        second = behind(ranks, lambda p: ranks.for_claim(p, SPEC), 1)
        first = next(p for p in range(PARTITIONS) if p != late and ranks.for_claim(p, SPEC) == 0)
        finder.heard(t.ReadyWake(late, SPEC))
        finder.heard(t.ReadyWake(first, SPEC))
        finder.heard(t.ReadyWake(second, SPEC))
        await asyncio.sleep(60)
        finder.close()
        return wanted

    wanted = run_virtual(main)
    assert len({partition for _, partition in wanted}) == len(wanted)
    assert all(at < 0.1 for at, _ in wanted)


def test_when_others_are_gone_what_ranks_first_here_is_looked_at() -> None:
    async def main() -> None:
        wanted: set[int] = set()
        ranks = ranks_of("me", "other")
        finder = Finder(ranks, [SPEC, OTHER], PARTITIONS, wanted.add)
        finder.visit_all()
        mine = {p for p in range(PARTITIONS) if ranks.for_claim(p, SPEC) == 0}
        assert wanted == mine | {p for p in range(PARTITIONS) if ranks.for_claim(p, OTHER) == 0}
        assert ranks.learn([record("me")])
        finder.visit_all()
        assert wanted == set(range(PARTITIONS))

    run_virtual(main)


def test_the_slow_round_finds_work_of_one_who_looks_after_no_partition() -> None:
    """What is ready is of a State that only one worker runs, and another worker looks after its partition's timers."""
    ranks, wanted = Ranks("me"), []
    ranks.learn([record("me", spec=OTHER), *(record(f"w{n}") for n in range(9))])

    async def main() -> None:
        finder = Finder(ranks, [OTHER], PARTITIONS, wanted.append)
        partition = next(p for p in range(PARTITIONS) if ranks.for_care(p) > 0)
        finder.visit(partition)
        assert wanted == [partition]

    run_virtual(main)


# ---- a partition's time


class Redis:
    """Notes when `due` is called; nothing is ever due."""

    partitions = PARTITIONS

    def __init__(self) -> None:
        self.calls: list[tuple[float, int]] = []
        self.next_ms: int | None = None

    async def due(self, partition: int) -> t.DueAnswer:
        self.calls.append((asyncio.get_running_loop().time(), partition))
        return t.DueAnswer(now_ms=0, next_ms=self.next_ms, done=0)


def caretaker(redis: Redis, ranks: Ranks) -> Caretaker:
    return Caretaker(redis, ranks, lambda partition: None, lambda tx: None)  # type: ignore[arg-type]


def test_three_workers_lost_at_once_do_not_stop_a_partitions_time() -> None:
    """The three that rank first for it are dead. The next heard when it is needed, and calls `due` a little later."""

    async def main() -> list[float]:
        redis, ranks = Redis(), ranks_of("me", "dead-1", "dead-2", "dead-3")
        care = caretaker(redis, ranks)
        partition = behind(ranks, ranks.for_care, 3)
        care.heard(t.DueWake(partition, 10_000))
        await asyncio.sleep(60)
        await care.close()
        return [at for at, called in redis.calls if called == partition]

    (at,) = run_virtual(main)
    assert 10 < at < 12


def test_who_hears_that_another_called_leaves_it_at_that() -> None:
    async def main() -> list[float]:
        redis, ranks = Redis(), ranks_of("me", "first")
        care = caretaker(redis, ranks)
        partition = behind(ranks, ranks.for_care, 1)
        care.heard(t.DueWake(partition, 10_000))
        await asyncio.sleep(10.01)
        care.heard(t.DueWake(partition, 5_000))  # what `due` says to all, when the first has called it
        await asyncio.sleep(60)
        await care.close()
        return [at for at, _ in redis.calls]

    (at,) = run_virtual(main)
    assert 15 < at < 16


def test_an_earlier_time_is_kept_and_a_later_one_forgets_nothing_of_other_partitions() -> None:
    async def main() -> list[tuple[float, int]]:
        redis = Redis()
        care = caretaker(redis, Ranks("me"))
        care.heard(t.DueWake(1, 30_000))
        care.heard(t.DueWake(2, 20_000))
        care.heard(t.DueWake(1, 10_000))
        care.needed(2, 50_000)
        await asyncio.sleep(100)
        await care.close()
        return redis.calls

    assert run_virtual(main) == [(10.0, 1), (20.0, 2)]
