"""Pages of logs: those that ask for the same one get the same one, and none is kept that might be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orbit.edge import pages as module
from orbit.edge.pages import Pages
from orbit.edge.tasks import Tasks
from orbit.errors import Unavailable
from orbit.protocol.codecs import JSON
from orbit.protocol.cursors import START, Cursor
from orbit.protocol.entries import LogPage, LogReset, UpdateEntry
from orbit.protocol.ids import Epoch, TxId
from orbit.protocol.values import pack
from orbit.store.types import Missing
from tests.support.waiting import soon

TX, OTHER = TxId("transaction-0000001"), TxId("transaction-0000002")
EPOCH = Epoch("1" * 19)


def entry(seq: int, size: int = 10) -> UpdateEntry:
    return UpdateEntry(Cursor(seq, EPOCH), pack("x" * size))


def full(first: int, size: int = 10) -> LogPage:
    """A page that something follows."""
    return LogPage((entry(first, size), entry(first + 1, size)), 9, Cursor(99, EPOCH), "running", more=True)


END = LogPage((entry(99),), 9, Cursor(99, EPOCH), "running", more=False)
RESET = LogReset(START, "rewound", pack(None), 9, Cursor(99, EPOCH), "running")


class Log:
    """Answers when told to; counts."""

    def __init__(self) -> None:
        self.answer: LogPage | LogReset | Missing | Exception = full(1)
        self.go = asyncio.Event()
        self.go.set()
        self.reads = 0
        self.tasks = Tasks()
        self.pages = Pages(self.read, self.tasks)

    async def read(self, tx: TxId, after: Cursor) -> LogPage | LogReset | Missing:
        self.reads += 1
        answer = self.answer
        await self.go.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def waiting(log: Log, count: int) -> list[asyncio.Task[module.Page]]:
    tasks = [asyncio.create_task(log.pages.get(TX, START)) for _ in range(count)]
    await soon(lambda: log.reads)
    return tasks


@pytest.mark.parametrize("answer", [full(1), END, RESET, Missing()], ids=["full", "end", "reset", "missing"])
async def test_those_that_ask_at_once_share_one(answer: LogPage | LogReset | Missing) -> None:
    log = Log()
    log.answer = answer
    log.go.clear()
    asking = await waiting(log, 5)
    log.go.set()
    found = await asyncio.gather(*asking)
    assert log.reads == 1
    assert all(page is found[0] for page in found)
    assert found[0].answer is answer


async def test_its_frames_are_made_once() -> None:
    log = Log()
    one, other = await log.pages.get(TX, START), await log.pages.get(TX, START)
    assert isinstance(one.answer, LogPage)
    assert one.rendered is not None
    assert other.rendered is not None
    assert one.rendered.frames(one.answer.entries, JSON) is other.rendered.frames(one.answer.entries, JSON)


async def test_another_place_and_another_transaction_are_other_pages() -> None:
    log = Log()
    await log.pages.get(TX, START)
    await log.pages.get(TX, Cursor(1, EPOCH))
    await log.pages.get(OTHER, START)
    assert log.reads == 3


@pytest.mark.parametrize("answer", [END, RESET, Missing()], ids=["end", "reset", "missing"])
async def test_what_may_be_otherwise_by_now_is_not_kept(answer: LogPage | LogReset | Missing) -> None:
    log = Log()
    log.answer = answer
    await log.pages.get(TX, START)
    await log.pages.get(TX, START)
    assert log.reads == 2


async def test_nothing_is_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    await log.pages.get(TX, START)
    monkeypatch.setattr(module, "KEPT_S", 0.0)
    await asyncio.sleep(0.001)
    await log.pages.get(TX, START)
    assert log.reads == 2


FORGETS: dict[str, Callable[[Pages], None]] = {"all": Pages.clear, "this one": lambda pages: pages.forget(TX)}


@pytest.mark.parametrize("how", FORGETS)
async def test_what_redis_may_have_lost_is_forgotten(how: str) -> None:
    log = Log()
    await log.pages.get(TX, START)
    FORGETS[how](log.pages)
    await log.pages.get(TX, START)
    assert log.reads == 2


async def test_what_was_asked_before_a_gap_is_no_answer_to_who_asks_after_it() -> None:
    log = Log()
    log.go.clear()
    (before,) = await waiting(log, 1)
    log.pages.clear()
    log.answer = END
    after = asyncio.create_task(log.pages.get(TX, START))
    await soon(lambda: log.reads == 2)
    log.go.set()
    assert (await before).answer == full(1)
    assert (await after).answer is END
    await log.pages.get(TX, START)
    assert log.reads == 3, "neither is kept"


async def test_forgetting_one_leaves_the_others() -> None:
    log = Log()
    await log.pages.get(TX, START)
    log.pages.forget(OTHER)
    await log.pages.get(TX, START)
    assert log.reads == 1


async def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 100_000)
    log = Log()
    log.answer = full(1, size=20_000)
    for seq in range(10):
        await log.pages.get(TX, Cursor(seq, EPOCH))
    reads = log.reads
    await log.pages.get(TX, Cursor(9, EPOCH))
    assert log.reads == reads, "the newest is there"
    await log.pages.get(TX, Cursor(0, EPOCH))
    assert log.reads == reads + 1, "the oldest isn't"


async def test_a_failure_is_everybodys_and_is_tried_again() -> None:
    log = Log()
    log.answer = Unavailable("away")
    log.go.clear()
    asking = await waiting(log, 3)
    log.go.set()
    assert all(isinstance(error, Unavailable) for error in await asyncio.gather(*asking, return_exceptions=True))
    log.answer = END
    assert (await log.pages.get(TX, START)).answer is END


async def test_who_leaves_disturbs_nobody() -> None:
    log = Log()
    log.go.clear()
    first, second = await waiting(log, 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    log.go.set()
    assert (await second).answer == full(1)


async def test_the_end_of_the_process_ends_the_waiting() -> None:
    log = Log()
    log.go.clear()
    (asking,) = await waiting(log, 1)
    await log.tasks.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
