"""What a renewal does to a lease, however its answer comes or doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orbit.errors import OutcomeUnknown, Unavailable
from orbit.protocol.ids import Epoch, TxId
from orbit.store import types as t
from orbit.worker.lease import Lease, clock, own_deadline_s
from orbit.worker.renewals import Renewals, Renewed

LEASE_S = 10.0


class Redis:
    """A store that answers as told, when `took_s` has passed."""

    def __init__(self, now: list[float], answer: t.Renewal | Exception, took_s: float = 0.0) -> None:
        self.answer, self.took_s, self.asked = answer, took_s, 0
        self.meanwhile: list[Any] = []
        self._now = now

    def partition_of(self, tx: TxId) -> int:
        return 0

    async def renew(self, partition: int, worker: str, held: Sequence[t.Held], lease_ms: int) -> t.Renewal:
        self.asked += 1
        self._now[0] += self.took_s
        for happens in self.meanwhile:
            happens()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def renewal(*lost: TxId) -> t.Renewal:
    return t.Renewal(frozenset(lost), frozenset(), frozenset())


async def round_of(now: list[float], redis: Redis) -> tuple[Lease, list[Renewed]]:
    """One lease, asked for at 100; one round at 107."""
    heard: list[Renewed] = []
    with clock(lambda: now[0]):
        lease = Lease(TxId("a" * 16), Epoch("1" * 19), 3, own_deadline_s(now[0], LEASE_S))
        renewals = Renewals("w", LEASE_S)
        renewals.add(lease)
        redis.meanwhile = [happens(lease) for happens in redis.meanwhile]
        now[0] += 7.0
        await renewals.round(redis, heard.append)  # type: ignore[arg-type]
    return lease, heard


async def test_a_renewals_deadline_counts_from_before_it_was_sent() -> None:
    now = [100.0]
    lease, heard = await round_of(now, Redis(now, renewal(), took_s=2.5))
    assert lease.deadline_s == own_deadline_s(107.0, LEASE_S)
    assert heard == []


async def test_an_answer_that_comes_too_late_confirms_nothing_for_now() -> None:
    now = [100.0]
    lease, _ = await round_of(now, Redis(now, renewal(), took_s=LEASE_S))
    with clock(lambda: now[0]):
        assert lease.lapsed


@pytest.mark.parametrize("broken", [OutcomeUnknown("lost"), Unavailable("away")])
async def test_an_answer_that_was_lost_neither_extends_nor_loses(broken: Exception) -> None:
    now = [100.0]
    lease, heard = await round_of(now, Redis(now, broken, took_s=1.0))
    assert lease.deadline_s == own_deadline_s(100.0, LEASE_S)
    assert heard == []


async def test_one_that_is_lost_is_told_at_once() -> None:
    now = [100.0]
    lease, heard = await round_of(now, Redis(now, renewal(TxId("a" * 16))))
    assert [found.lost for found in heard] == [(lease,)]


@pytest.mark.parametrize("field", ["number", "settling"])
async def test_a_commit_meanwhile_says_itself_whether_it_is_lost(field: str) -> None:
    """Its end may be what the renewal found: the commit's own answer is on its way."""
    now = [100.0]
    redis = Redis(now, renewal(TxId("a" * 16)))
    redis.meanwhile = [lambda lease: lambda: setattr(lease, field, 4)]
    _, heard = await round_of(now, redis)
    assert heard == []


async def test_only_what_is_due_is_asked_for() -> None:
    now = [100.0]
    redis = Redis(now, renewal())
    lease, _ = await round_of(now, redis)
    with clock(lambda: now[0]):
        renewals = Renewals("w", LEASE_S)
        renewals.add(lease)
        await renewals.round(redis, lambda found: None)  # type: ignore[arg-type]
    assert redis.asked == 1


async def test_one_tells_when_the_next_is_due() -> None:
    renewals = Renewals("w", LEASE_S)
    assert renewals.next_s() is None
    lease = Lease(TxId("a" * 16), Epoch("1" * 19), 3, 100.0)
    renewals.add(lease)
    assert 90.0 < (renewals.next_s() or 0) < 100.0
    renewals.remove(lease)
    assert renewals.held() == []
