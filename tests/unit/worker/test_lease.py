from __future__ import annotations

import asyncio
import threading

import pytest

from orbit.protocol.ids import Epoch, TxId
from orbit.worker.lease import Lease, now_s, own_deadline_s


async def steps_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("lease_s", [0.3, 1.0, 2.0, 10.0, 60.0])
def test_our_own_deadline_is_ahead_of_the_servers(lease_s: float) -> None:
    assert 100.0 + 0.7 * lease_s <= own_deadline_s(100.0, lease_s) <= 100.0 + 0.9 * lease_s


def lease(left_s: float) -> Lease:
    return Lease(TxId("t" * 16), Epoch("1" * 19), 0, now_s() + left_s)


async def test_a_lease_that_is_held_needs_no_wait() -> None:
    await lease(60).confirmed()


async def test_a_renewal_from_another_thread_lets_turns_go_on() -> None:
    lapsed = lease(-1)
    waiting = asyncio.ensure_future(lapsed.confirmed())
    await steps_of_the_loop()
    thread = threading.Thread(target=lapsed.extend, args=(now_s() - 0.5,))  # too late a renewal doesn't
    thread.start()
    thread.join()
    await steps_of_the_loop()
    assert not waiting.done()
    thread = threading.Thread(target=lapsed.extend, args=(now_s() + 60,))
    thread.start()
    thread.join()
    await waiting
    assert not lapsed.waiting


async def test_who_is_to_leave_waits_for_no_renewal() -> None:
    lapsed = lease(-1)
    waiting = asyncio.ensure_future(lapsed.confirmed())
    await steps_of_the_loop()
    lapsed.give_up()
    await waiting


def test_a_deadline_never_moves_back() -> None:
    async def check() -> None:
        held = lease(60)
        before = held.deadline_s
        held.extend(before - 10)
        assert held.deadline_s == before

    asyncio.run(check())
