"""One grant's history, against a store that answers what the test says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orbit.errors import OutcomeUnknown, Overloaded, Unavailable
from orbit.protocol.cursors import START, Cursor
from orbit.protocol.ids import Epoch, TxId
from orbit.state import Unloaded
from orbit.store import types as t
from orbit.worker.history import History, Listener
from orbit.worker.lease import Lease, now_s
from orbit.worker.metrics import Metrics
from orbit.worker.turn import Fields, Turn

TX, EPOCH = TxId("t" * 16), Epoch("1" * 19)
GRANT = t.Grant(TX, EPOCH, 5, t.Spec("q", "S", 1), False)
LOADED = t.Loaded(
    5, START, t.Snapshot(1, b"{}", 5, START), None, {}, False, 0, 2, 1, None, 100, None, timers={}, children=(),
    parent=None, lineage="Demo", elapsed_ms=0,
)


async def steps_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def done(number: int, *, cancel: str | None = None, unread: bool = False) -> t.Done:
    return t.Done(number, Cursor(number, EPOCH), cancel, unread)


class Scripted:
    """Answers commits in turn; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[t.Commit] = []
        self.go = asyncio.Event()
        self.go.set()

    async def commit(self, commit: t.Commit) -> t.CommitAnswer:
        self.asked.append(commit)
        await self.go.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []

    def listener(self) -> Listener:
        def note(event: str) -> Any:
            return lambda *_: self.events.append(event)

        return Listener(
            note("refused"), note("broken"), note("ending"), note("ended"), note("cancel"), note("unread"),
            note("outbox"),
        )


def history(store: Scripted, told: Told, *, lease_left_s: float = 60.0) -> History:
    lease = Lease(TX, EPOCH, 5, now_s() + lease_left_s)
    return History(store, GRANT, LOADED, lease, told.listener(), 10.0, Metrics())  # type: ignore[arg-type]


def update(text: bytes) -> Turn:
    return Turn(entries=[t.NewUpdate(text)])


async def test_commits_follow_one_another_also_when_they_are_asked_for_at_once() -> None:
    store, told = Scripted(done(6), done(7), done(8)), Told()
    one = history(store, told)
    await asyncio.gather(*(one.commit(update(text)) for text in (b"a", b"b", b"c")))
    assert [(commit.number, commit.entries[0]) for commit in store.asked] == [
        (5, t.NewUpdate(b"a")), (6, t.NewUpdate(b"b")), (7, t.NewUpdate(b"c")),
    ]  # fmt: skip
    assert one.number == 8


async def test_after_an_unknown_outcome_the_equal_commit_is_sent_again_and_nothing_else() -> None:
    repeated = t.Repeated(6, START, None, False)
    store = Scripted(OutcomeUnknown("cut"), Unavailable("away"), Overloaded("full"), repeated, done(7))
    told = Told()
    one = history(store, told)
    await asyncio.gather(one.commit(update(b"a")), one.commit(update(b"b")))
    assert store.asked[0] == store.asked[1] == store.asked[2] == store.asked[3]
    assert store.asked[4].number == 6
    assert not told.events


@pytest.mark.parametrize("answer", [t.Fenced(), t.Rewound(), t.Vanished()])
async def test_after_a_refusal_nothing_is_sent_any_more(answer: t.CommitAnswer) -> None:
    store, told = Scripted(answer), Told()
    one = history(store, told)
    raised = await asyncio.gather(one.commit(update(b"a")), one.commit(update(b"b")), return_exceptions=True)
    assert [type(error) for error in raised] == [Unloaded, Unloaded]
    assert len(store.asked) == 1
    assert told.events == ["refused"]
    with pytest.raises(Unloaded):
        await one.commit(update(b"c"))


async def test_an_error_that_nobody_foresaw_ends_the_history_too() -> None:
    store, told = Scripted(RuntimeError("a defect")), Told()
    one = history(store, told)
    with pytest.raises(Unloaded):
        await one.commit(update(b"a"))
    assert told.events == ["broken"]
    assert not one.open


async def test_nothing_follows_the_end() -> None:
    store, told = Scripted(done(6)), Told()
    one = history(store, told)
    await one.commit(Turn(end=t.NewEnd("finished")))
    assert told.events == ["ending", "ended"]
    with pytest.raises(Unloaded):
        await one.commit(update(b"a"))


async def test_a_cancelled_commit_is_settled_before_that_is_raised() -> None:
    store, told = Scripted(done(6)), Told()
    store.go.clear()
    one = history(store, told)
    waiting = asyncio.ensure_future(one.commit(update(b"a")))
    await steps_of_the_loop()
    for _ in range(3):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    store.go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert one.number == 6


async def test_what_a_commit_tells() -> None:
    store, told = Scripted(done(6, cancel="enough"), done(7, unread=True)), Told()
    one = history(store, told)
    await one.commit(update(b"a"))
    await one.commit(update(b"b"))
    assert told.events == ["cancel", "unread"]


async def test_progress_sets_attempts_back_and_a_bare_update_does_not() -> None:
    one = history(Scripted(done(6), done(7), done(8)), Told())
    await one.commit(update(b"a"))
    assert one.attempts == 2
    await one.commit(Turn(attempts=3))
    assert one.attempts == 3
    await one.commit(Turn(names={"n": b"1"}))
    assert one.attempts == 0
    assert one.names == {"n": b"1"}


async def test_the_fields_are_asked_for_when_all_before_is_done() -> None:
    store = Scripted(done(6), done(7))
    one = history(store, Told())
    seen: list[bytes] = []

    def aside() -> Fields:
        seen.append(one.committed)
        return Fields(None, one.committed)

    await asyncio.gather(one.commit(Turn(), lambda: Fields(b"new", b"new")), one.commit(update(b"a"), aside))
    assert seen == [b"new"]
    assert one.stored == b"new"


async def test_a_commit_extends_a_lease_that_is_well_on_its_way() -> None:
    store = Scripted(done(6), done(7))
    one = history(store, Told(), lease_left_s=3.0)
    await one.commit(update(b"a"))
    await one.commit(update(b"b"))
    assert [commit.lease_ms for commit in store.asked] == [10_000, 0]


async def test_a_dropped_history_gives_up_what_is_under_way() -> None:
    store, told = Scripted(OutcomeUnknown("cut"), OutcomeUnknown("cut")), Told()
    one = history(store, told)
    waiting = asyncio.ensure_future(one.commit(update(b"a")))
    await steps_of_the_loop()
    one.drop()
    with pytest.raises(Unloaded):
        await waiting
