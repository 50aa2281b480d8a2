"""A session's hold of a transaction, made sure of after Redis was away."""

from __future__ import annotations

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

    def __init__(self, row: t.SessionRow | None, answer: Any = None, *, status: str = "running") -> None:
        self.row, self.answer = row, answer
        self.attached: list[t.Place] = []
        self.over: list[str] = []
        self.restarts = 0
        self.failures = 0
        watch = cast(Any, SimpleNamespace(tx=TxId("t" * 16), feed=SimpleNamespace(over=status == "finished")))
        self.attachment = Attachment(cast(Any, self), self, watch, NAME, MINE)
        self.attachment.follower = cast(Follower, SimpleNamespace(restart=self.restart))

    async def session(self, tx: TxId, session: PublicName) -> t.SessionRow | None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        return self.row

    async def attach(self, tx: TxId, session: PublicName, place: t.Place, subject: None) -> Any:
        self.attached.append(place)
        return self.answer

    def restart(self) -> None:
        self.restarts += 1

    def on_end(self, attachment: Attachment) -> None:
        self.over.append("end")

    def on_lost(self, attachment: Attachment, code: str, message: str) -> None:
        self.over.append(code)

    def on_defect(self, attachment: Attachment, error: Exception) -> None:
        self.over.append("defect")


def row(last_mid: int = 0, place: t.Place | None = MINE) -> t.SessionRow:
    return t.SessionRow(NAME, None, last_mid, place)


def done(last_mid: int = 0) -> t.AttachDone:
    return t.AttachDone(None, START, 0, "running", last_mid)


async def test_the_place_is_still_its_own() -> None:
    bench = Bench(row(3))
    assert await bench.attachment.confirm() == 3
    assert bench.attached == bench.over == []


@pytest.mark.parametrize("found", [None, row(0, None)])
async def test_a_lost_place_is_taken_again(found: t.SessionRow | None) -> None:
    bench = Bench(found, done(2))
    assert await bench.attachment.confirm() == 2
    assert bench.attached == [MINE]


@pytest.mark.parametrize(
    ("found", "answer", "status", "code"),
    [
        (row(0, OTHER), None, "running", "replaced"),
        (None, t.Missing(), "running", "not_found"),
        (None, t.Missing(), "finished", "gone"),
        (None, t.Barred("no"), "running", "forbidden"),
        (None, t.NotPlace(), "running", "replaced"),
    ],
)
async def test_what_is_its_own_no_more(found: t.SessionRow | None, answer: Any, status: str, code: str) -> None:
    bench = Bench(found, answer, status=status)
    assert await bench.attachment.confirm() is None
    assert bench.over == [code]


@pytest.mark.parametrize("found", [row(), None])
async def test_what_was_detached_meanwhile(found: t.SessionRow | None) -> None:
    bench = Bench(found, done())
    bench.attachment.open = False
    assert await bench.attachment.confirm() is None
    assert bench.over == []


@pytest.mark.parametrize(("given", "last_mid", "restarts"), [(0, 0, 0), (3, 3, 0), (3, 4, 0), (3, 2, 1)])
async def test_a_receipt_that_redis_lost(given: int, last_mid: int, restarts: int) -> None:
    bench = Bench(row(last_mid))
    bench.attachment.given_mid = given
    await check_sessions([bench.attachment], 0.0)
    assert bench.restarts == restarts
    bench.attachment.told_reset(last_mid)
    await check_sessions([bench.attachment], 0.0)
    assert bench.restarts == restarts


async def test_redis_that_does_not_answer_is_asked_again() -> None:
    bench = Bench(row(1))
    bench.failures, bench.attachment.given_mid = 3, 2
    await check_sessions([bench.attachment], 0.0)
    assert bench.restarts == 1


async def test_a_defect_harms_its_own_attachment_alone() -> None:
    broken, sound = Bench(row()), Bench(row(1))
    broken.row, sound.attachment.given_mid = cast(Any, 7), 2
    await check_sessions([broken.attachment, sound.attachment], 0.0)
    assert broken.over == ["defect"]
    assert sound.restarts == 1
