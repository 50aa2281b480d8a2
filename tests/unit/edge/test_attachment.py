"""A session's hold of a transaction, made sure of after Redis was away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orbit.edge.attachment import Attachment
from orbit.edge.follower import Follower
from orbit.edge.rechecking import check_sessions
from orbit.errors import Unavailable
from orbit.protocol.cursors import START
from orbit.protocol.ids import PublicName, TxId
from orbit.store import types as t

NAME = PublicName("p")
MINE, OTHER = t.Place("e", "1", "1"), t.Place("f", "1", "1")


class Bench:
    """A store that answers as it is told, and a keeper that remembers."""

    def __init__(self, answer: Any, *, status: str = "running") -> None:
        self.answer = answer
        self.asked: list[tuple[t.Place, int]] = []
        self.over: list[str] = []
        self.taken: list[t.Place] = []
        self.restarts = 0
        self.failures = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        watch = cast(Any, SimpleNamespace(tx=TxId("t" * 16), feed=SimpleNamespace(over=status == "finished")))
        self.attachment = Attachment(cast(Any, self), self, watch, NAME, MINE)
        self.attachment.number = 7
        self.attachment.follower = cast(Follower, SimpleNamespace(restart=self.restart))

    async def attach_again(self, tx: TxId, session: PublicName, place: t.Place, subject: None, attach: int) -> Any:
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        self.asked.append((place, attach))
        await self.go_on.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def on_taken(self, attachment: Attachment, before: t.Place) -> None:
        self.taken.append(before)

    def restart(self) -> None:
        self.restarts += 1

    def on_end(self, attachment: Attachment) -> None:
        self.over.append("end")

    def on_lost(self, attachment: Attachment, code: str, message: str) -> None:
        self.over.append(code)

    def on_defect(self, attachment: Attachment, error: Exception) -> None:
        self.over.append("defect")


def done(last_mid: int = 0, before: t.Place | None = None) -> t.AttachDone:
    return t.AttachDone(before, START, 0, "running", last_mid)


async def test_the_place_is_its_own_under_the_number_of_its_attach() -> None:
    bench = Bench(done(3))
    assert await bench.attachment.confirm() == 3
    assert bench.asked == [(MINE, 7)]
    assert bench.over == bench.taken == []


async def test_who_had_the_place_from_an_earlier_attach_is_told() -> None:
    bench = Bench(done(2, OTHER))
    assert await bench.attachment.confirm() == 2
    assert bench.taken == [OTHER]


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (t.Newer(), "running", "replaced"),
        (t.Missing(), "running", "not_found"),
        (t.Missing(), "finished", "gone"),
        (t.Barred("no"), "running", "forbidden"),
        (t.NotPlace(), "running", "replaced"),
    ],
)
async def test_what_is_its_own_no_more(answer: Any, status: str, code: str) -> None:
    bench = Bench(answer, status=status)
    assert await bench.attachment.confirm() is None
    assert bench.over == [code]
    told: list[int] = []
    await bench.attachment.at_rest(told.append)
    assert told == []


async def test_what_was_detached_meanwhile() -> None:
    bench = Bench(t.Newer())
    bench.attachment.open = False
    assert await bench.attachment.confirm() is None
    assert bench.over == []


@pytest.mark.parametrize(("given", "last_mid", "restarts"), [(0, 0, 0), (3, 3, 0), (3, 4, 0), (3, 2, 1)])
async def test_a_receipt_that_redis_lost(given: int, last_mid: int, restarts: int) -> None:
    bench = Bench(done(last_mid))
    bench.attachment.given_mid = given
    await check_sessions([bench.attachment], 0.0)
    assert bench.restarts == restarts
    await bench.attachment.at_rest(lambda last_mid: None)
    await check_sessions([bench.attachment], 0.0)
    assert bench.restarts == restarts


async def test_a_loss_that_a_reset_told_meanwhile_is_not_told_again() -> None:
    """The log was found rewound, and told with the last mid, between this check's question and its answer."""
    bench = Bench(done(1))
    bench.attachment.given_mid = 3
    bench.go_on.clear()
    checking = asyncio.ensure_future(bench.attachment.recheck())
    await asyncio.sleep(0)
    bench.attachment.given_mid = 1
    bench.go_on.set()
    await checking
    assert bench.restarts == 0


async def test_what_is_stored_is_told_between_the_answers_to_messages() -> None:
    """A message under way when the store is asked may be stored after that, and its receipt be told before the reset:
    then the client would take its receipt for lost, and its next message under that mid would be taken for a repeat."""
    bench = Bench(done(5))
    told: list[object] = []
    stored = asyncio.Event()

    async def send(mid: int) -> None:
        async with bench.attachment.sends.passing():
            await stored.wait()
            bench.answer = done(mid)
            told.append(f"receipt {mid}")

    first = asyncio.ensure_future(send(6))
    await asyncio.sleep(0)
    resetting = asyncio.ensure_future(bench.attachment.at_rest(told.append))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(send(7))
    for _ in range(5):
        await asyncio.sleep(0)
    assert told == []
    stored.set()
    await asyncio.gather(first, resetting, second)
    assert told == ["receipt 6", 6, "receipt 7"]
    assert bench.attachment.given_mid == 6


@pytest.mark.parametrize(("given", "places"), [(1, ["1"]), (2, ["1", "1.1"])])
async def test_mids_are_given_out_again_only_under_a_new_name_of_the_place(given: int, places: list[str]) -> None:
    """A copy of an old message that is still on its way would be stored under a mid that is another message's now."""
    bench, told = Bench(done(1)), list[int]()
    bench.attachment.given_mid = given
    await bench.attachment.at_rest(told.append)
    assert [place.attach for place, _ in bench.asked] == places
    assert [number for _, number in bench.asked] == [7] * len(places), "it is the same attach"
    assert str(bench.attachment.place) == f"e/1/{places[-1]}"
    assert told == [1]


async def test_each_loss_names_the_place_anew() -> None:
    bench = Bench(done(1))
    for name in ("1.1", "1.2"):
        bench.attachment.given_mid = 2
        await bench.attachment.at_rest(lambda last_mid: None)
        assert bench.attachment.place.attach == name


async def test_redis_that_does_not_answer_is_asked_again() -> None:
    bench = Bench(done(1))
    bench.failures, bench.attachment.given_mid = 3, 2
    await check_sessions([bench.attachment], 0.0)
    assert bench.restarts == 1


async def test_a_defect_harms_its_own_attachment_alone() -> None:
    broken, sound = Bench(RuntimeError("a defect")), Bench(done(1))
    sound.attachment.given_mid = 2
    await check_sessions([broken.attachment, sound.attachment], 0.0)
    assert broken.over == ["defect"]
    assert sound.restarts == 1
