"""Leases that nobody confirms."""

from __future__ import annotations

import asyncio

from orbit.protocol.ids import Epoch, TxId
from orbit.worker.lapses import Lapses, Noticed
from orbit.worker.lease import Lease, margin_s, now_s, own_deadline_s

LEASE_S = 10.0
PATIENCE_S = margin_s(LEASE_S) / 2


def lease(asked_s: float, name: str = "a") -> Lease:
    return Lease(TxId(name * 16), Epoch("1" * 19), 0, own_deadline_s(asked_s, LEASE_S))


async def test_what_runs_is_stopped_between_our_own_deadline_and_the_servers() -> None:
    noticed, held = Noticed(LEASE_S), lease(100.0)
    assert noticed.look([held], 100.0) == ([], held.deadline_s)
    over, again = noticed.look([held], held.deadline_s + 0.001)
    assert (over, again) == ([], held.deadline_s + 0.001 + PATIENCE_S)
    assert noticed.look([held], again) == ([held], None)
    assert held.deadline_s < again < 100.0 + LEASE_S


async def test_one_that_is_confirmed_meanwhile_goes_on() -> None:
    noticed, held = Noticed(LEASE_S), lease(100.0)
    noticed.look([held], held.deadline_s + 0.001)
    held.extend(own_deadline_s(109.0, LEASE_S))
    assert noticed.look([held], 109.6) == ([], held.deadline_s)
    _, again = noticed.look([held], held.deadline_s + 5)
    assert again == held.deadline_s + 5 + PATIENCE_S, "what was noticed before the renewal counts no more"


async def test_a_process_that_stood_still_lets_a_renewal_answer_first() -> None:
    noticed, held = Noticed(LEASE_S), lease(100.0)
    assert noticed.look([held], 500.0) == ([], 500.0 + PATIENCE_S)
    assert noticed.look([held], 500.0 + PATIENCE_S) == ([held], None)


async def test_each_lease_is_judged_alone() -> None:
    noticed, old, young = Noticed(LEASE_S), lease(100.0, "a"), lease(105.0, "b")
    noticed.look([old, young], 109.2)
    assert noticed.look([old, young], 109.2 + PATIENCE_S) == ([old], young.deadline_s)
    assert noticed.look([], 200.0) == ([], None)


async def test_a_lease_that_is_added_later_and_ends_earlier_is_seen_in_time() -> None:
    told: asyncio.Queue[Lease] = asyncio.Queue()
    long, short = lease(now_s() + 1000, "a"), lease(now_s() - 1000, "b")
    held = [long]
    lapses = Lapses(lambda: held, 0.2, told.put_nowait)
    lapses.added(long)
    held.append(short)
    lapses.added(short)
    async with asyncio.timeout(5):
        assert await told.get() is short
    assert told.empty()
    lapses.close()
