from __future__ import annotations

from collections import Counter

from orbit.store.types import Spec, WorkerRecord
from orbit.worker.ranking import Ranks, rank_of

WORKERS = [f"worker-{n}" for n in range(5)]
SPEC, OTHER = Spec("default", "A", 1), Spec("default", "B", 1)


def test_all_agree_on_one_order() -> None:
    for key in map(str, range(50)):
        assert sorted(rank_of(worker, WORKERS, key) for worker in WORKERS) == [0, 1, 2, 3, 4]


def test_the_load_spreads() -> None:
    first = Counter(worker for key in range(1000) for worker in WORKERS if rank_of(worker, WORKERS, str(key)) == 0)
    assert all(150 < first[worker] < 250 for worker in WORKERS)


def test_a_worker_that_leaves_moves_its_own_keys_alone() -> None:
    left = WORKERS[:-1]
    for key in map(str, range(200)):
        for worker in left:
            before, after = rank_of(worker, WORKERS, key), rank_of(worker, left, key)
            assert after == before - (rank_of(WORKERS[-1], WORKERS, key) < before)


def record(worker: str, *specs: Spec, room: int = 1) -> WorkerRecord:
    return WorkerRecord(worker, specs, room)


def test_only_those_that_fit_and_have_room_are_ranked_for_a_claim() -> None:
    ranks = Ranks("me")
    ranks.learn([record("me", SPEC), record("full", SPEC, room=0), record("other", OTHER)])
    assert all(ranks.for_claim(partition, SPEC) == 0 for partition in range(50))
    assert any(ranks.for_care(partition) > 0 for partition in range(50))
    assert ranks.workers == 3


def test_ranks_are_found_anew_when_others_live() -> None:
    ranks = Ranks("me")
    assert ranks.for_care(1) == 0
    assert ranks.learn([record("me", SPEC), *(record(f"w{n}", SPEC) for n in range(20))])
    assert any(ranks.for_care(partition) > 0 for partition in range(5))
    assert not ranks.learn([record("me", SPEC, room=0), *(record(f"w{n}", SPEC) for n in range(20))])
    assert ranks.learn([])
    assert all(ranks.for_care(partition) == 0 for partition in range(5))
