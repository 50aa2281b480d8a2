"""The order of what one client asks of one transaction."""

from __future__ import annotations

import asyncio

from orbit.edge.lanes import Asked, Lanes
from orbit.edge.tasks import Tasks
from orbit.protocol.messages import Attach, Detach, Send


class Desk:
    """Begins work and ends it when it is told to."""

    def __init__(self) -> None:
        self.begun: list[Asked] = []
        self.ends: dict[int, asyncio.Future[None]] = {}
        self.idle = 0
        self.tasks = Tasks()
        self.lanes = Lanes(self.tasks, self.work, self.on_idle)

    async def work(self, message: Asked) -> None:
        self.begun.append(message)
        end = self.ends[id(message)] = asyncio.get_running_loop().create_future()
        await end

    def on_idle(self) -> None:
        self.idle += 1

    async def put(self, *messages: Asked) -> None:
        for message in messages:
            self.lanes.put(message)
        await self.breathe()

    async def end(self, message: Asked) -> None:
        self.ends[id(message)].set_result(None)
        await self.breathe()

    async def breathe(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_sends_of_one_transaction_begin_in_order_without_waiting() -> None:
    desk = Desk()
    sends = [Send("a", mid, None) for mid in range(1, 20)]
    await desk.put(*sends)
    assert desk.begun == sends
    assert desk.lanes.busy == 19
    await desk.tasks.cancel()


async def test_a_detach_waits_for_the_sends_before_it_and_holds_up_those_after_it() -> None:
    desk = Desk()
    one, two, detach, three = Send("a", 1, None), Send("a", 2, None), Detach("a"), Send("a", 3, None)
    await desk.put(one, two, detach, three)
    assert desk.begun == [one, two]
    await desk.end(two)
    assert desk.begun == [one, two]
    await desk.end(one)
    assert desk.begun == [one, two, detach]
    await desk.end(detach)
    assert desk.begun == [one, two, detach, three]
    await desk.end(three)
    assert (desk.lanes.busy, desk.idle) == (0, 4)


async def test_transactions_never_wait_for_each_other() -> None:
    desk = Desk()
    attach, other = Attach("a"), Attach("b")
    await desk.put(attach, other, Send("b", 1, None))
    assert desk.begun == [attach, other]
    await desk.end(other)
    assert desk.begun[2:] == [Send("b", 1, None)]
    await desk.tasks.cancel()


async def test_what_has_not_begun_is_forgotten() -> None:
    desk = Desk()
    attach = Attach("a")
    await desk.put(attach, Send("a", 1, None), Send("a", 2, None))
    desk.lanes.clear()
    assert desk.lanes.busy == 1
    await desk.end(attach)
    assert desk.begun == [attach]
    assert desk.lanes.busy == 0
