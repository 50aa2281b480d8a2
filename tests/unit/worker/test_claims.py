"""How much is claimed at once."""

from __future__ import annotations

import asyncio
from typing import Any

from orbit.protocol.ids import Epoch, TxId
from orbit.store import types as t
from orbit.worker.claims import Claimer

SPEC = t.Spec("default", "S", 1)


class Partitions:
    """Gives what the test wants, when it wants: each claim waits for its answer."""

    def __init__(self) -> None:
        self.asked: dict[int, int] = {}
        self._answers: dict[int, asyncio.Future[tuple[t.Grant, ...]]] = {}

    async def claim(self, partition: int, worker: str, specs: Any, room: int, *_: Any) -> tuple[t.Grant, ...]:
        self.asked[partition] = room
        self._answers[partition] = asyncio.get_running_loop().create_future()
        return await self._answers[partition]

    def answer(self, partition: int, count: int) -> None:
        grants = (t.Grant(TxId(f"{partition}-{n}"), Epoch("1"), 0, SPEC, False, 0) for n in range(count))
        self._answers[partition].set_result(tuple(grants))


class Worker:
    """Holds what it was granted."""

    def __init__(self, concurrency: int) -> None:
        self.partitions = Partitions()
        self.held: list[t.Grant] = []
        self.full = 0
        store: Any = self.partitions
        self.claimer = Claimer(
            store, "w", (SPEC,), 10.0, lambda: concurrency - len(self.held), lambda grant, _: self.held.append(grant),
            self._on_full,
        )  # fmt: skip

    def _on_full(self) -> None:
        self.full += 1


async def passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_was_granted_has_its_room_while_others_are_begun() -> None:
    """Grants are begun one answer after another. An answer that waits for that must not look like free room."""
    worker = Worker(concurrency=3)
    for partition in range(4):
        worker.claimer.want(partition)
    await passes(1)
    assert worker.partitions.asked == {0: 3}, "all the room is asked for in one place"
    worker.partitions.answer(0, 1)
    await passes(12)
    assert worker.partitions.asked == {0: 3, 1: 2}
    worker.partitions.answer(1, 0)
    await passes(2)
    assert worker.partitions.asked == {0: 3, 1: 2, 2: 2}, "an empty answer holds nobody up"
    worker.partitions.answer(2, 1)
    await passes(1)
    worker.claimer.want(3)
    await passes(1)
    assert worker.partitions.asked[3] == 1
    worker.partitions.answer(3, 1)  # while that of 2 is still being begun
    await passes(1)
    worker.claimer.want(4)
    await passes(20)
    assert 4 not in worker.partitions.asked
    assert len(worker.held) == 3
    assert worker.full


async def test_a_full_answer_is_asked_for_more() -> None:
    worker = Worker(concurrency=10)
    worker.claimer.want(0)
    await passes(1)
    worker.partitions.answer(0, 8)
    await passes(12)
    assert worker.partitions.asked == {0: 2}
    worker.partitions.answer(0, 0)
    await worker.claimer.close()
    assert len(worker.held) == 8
    assert worker.claimer.reserved == 0


async def test_what_is_abandoned_reserves_nothing() -> None:
    worker = Worker(concurrency=10)
    worker.claimer.want(0)
    await passes(1)
    assert worker.claimer.reserved == 8
    await worker.claimer.abandon()
    assert worker.claimer.reserved == 0
