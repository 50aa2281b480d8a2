"""Each example is right wherever its worker is lost: `assert_crash_consistent`, in virtual time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from examples import approval, encode, fan_out, order, token_stream
from orbit import TransactionFailed
from orbit.testing import Bench, assert_crash_consistent, run

# ---- a stream of tokens


async def to_its_end(bench: Bench) -> Any:
    job = await bench.start(token_stream.TokenStream(prompt="Why?", tokens=20, tokens_per_s=100))
    await job.until_updates(1)
    await job.connect("late")
    result = await job.result()
    assert "".join(await job.updates()) == result["text"]
    return len(result["text"].split())


def test_each_token_once() -> None:
    report = assert_crash_consistent(to_its_end, token_stream)
    assert report.outcome["returned"] == 20


@pytest.mark.parametrize("crash", ["before", "after", "never"])
def test_a_stream_is_stopped_by_a_message(crash: str) -> None:
    """How far it comes until then depends on when the message is read; nothing else does."""

    async def scenario(bench: Bench) -> Any:
        job = await bench.start(token_stream.TokenStream(prompt="Why?", tokens=400, tokens_per_s=100))
        reader = await job.connect("reader")
        await job.until_updates(2)
        if crash == "before":
            await bench.crash()
        await reader.send("more!")
        await reader.send("stop")
        if crash == "after":
            await bench.crash()
        result = await job.result()
        updates = await job.updates()
        assert "".join(updates) == result["text"]
        assert 2 <= len(updates) <= 5
        assert [refusal.mid for refusal in await reader.refusals()] == [1]
        return result["stopped"]

    assert run(scenario, token_stream) is True


# ---- the encoding of a video


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "CHUNK_FRAMES", 1)
    monkeypatch.setattr(encode, "AT_ONCE", 2)


async def encoding(bench: Bench) -> Any:
    job = await bench.start(encode.Encode(frames=3, progress=False))
    return await job.result()


@pytest.mark.usefixtures("small_chunks")
def test_each_chunk_counts_once() -> None:
    report = assert_crash_consistent(encoding, encode)
    assert report.outcome["returned"]["frames"] == 3


# ---- an order


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(order, "LEDGER", str(tmp_path / "ledger.db"))
    return tmp_path / "ledger.db"


def begin_anew(ledger: Path) -> None:
    ledger.unlink(missing_ok=True)


def moved(ledger: Path) -> dict[str, list[int]]:
    """What was taken and given back."""
    with closing(sqlite3.connect(ledger)) as read:
        return {
            table: [cents for (cents,) in read.execute(f"SELECT cents FROM {table}")]
            for table in ("payments", "refunds")
        }


TEA = {"item": "tea", "cents": 450}


def test_an_order_is_paid_once_and_shipped_late(ledger: Path) -> None:
    async def scenario(bench: Bench) -> Any:
        begin_anew(ledger)
        job = await bench.start(order.Order, TEA)
        await job.until_updates(2)  # paid, and two days later: late
        await job.send({"shipped": "RR1"})
        await job.result()
        return moved(ledger)

    report = assert_crash_consistent(scenario, order)
    assert report.outcome["returned"] == {"payments": [450], "refunds": []}
    assert report.outcome["Order 1"]["log"][1:3] == [{"late": "tea"}, {"shipped": "RR1"}]


@pytest.mark.parametrize("paid", [True, False])
def test_a_cancelled_order_is_refunded(ledger: Path, paid: bool) -> None:
    async def scenario(bench: Bench) -> Any:
        begin_anew(ledger)
        job = await bench.start(order.Order, TEA)
        if paid:
            await job.until_updates(1)
        await job.cancel("changed my mind")
        assert (await job.ended()).status == "cancelled"
        money = moved(ledger)
        return sum(money["payments"]) - sum(money["refunds"])

    assert run(scenario, order) == 0
    if paid:
        report = assert_crash_consistent(scenario, order)
        assert report.outcome["Order 1"]["log"][1:] == [
            {"refunded": 450, "why": "changed my mind"}, "end: cancelled"
        ]  # fmt: skip


def test_an_order_that_is_not_shipped_gives_the_money_back(ledger: Path) -> None:
    async def scenario(bench: Bench) -> Any:
        begin_anew(ledger)
        job = await bench.start(order.Order, TEA)
        with pytest.raises(TransactionFailed, match="the money was given back"):
            await job.result()
        assert bench.now_s >= 30 * order.DAY_S
        return moved(ledger)

    assert run(scenario, order) == {"payments": [450], "refunds": [450]}


def test_a_payment_that_is_declined_is_not_tried_again(ledger: Path) -> None:
    async def scenario(bench: Bench) -> Any:
        job = await bench.start(order.Order(item="a house", cents=90_000_000))
        with pytest.raises(TransactionFailed, match="declined"):
            await job.result()
        return moved(ledger)

    assert run(scenario, order) == {"payments": [], "refunds": []}


# ---- an approval


async def asking(bench: Bench) -> Any:
    job = await bench.start(approval.Approval(what="a kettle", approvers=["Bea"]))
    await job.until_updates(2)
    ann, bea = await job.connect("ann", subject="Ann"), await job.connect("bea", subject="Bea")
    await ann.send("yes")
    await bench.settle()
    await bea.send("perhaps")
    await bench.settle()
    await job.until_updates(3)
    await bea.send("no")
    return await job.result(), round(bench.now_s / approval.DAY_S)


def test_only_an_answer_that_counts_decides() -> None:
    report = assert_crash_consistent(asking, approval)
    assert report.outcome["returned"] == ({"approved": False, "by": "Bea"}, 2)
    _, *log = report.outcome["Approval 1"]["log"]
    assert log == [
        {"reminder": 1, "of": "a kettle"},
        {"for ann": {"refused": "you aren't asked"}},
        {"for bea": {"refused": "say yes or no"}},
        {"reminder": 2, "of": "a kettle"},
        {"approved": False, "by": "Bea"},
        "end: finished",
    ]


def test_nobody_answers_within_a_week() -> None:
    async def scenario(bench: Bench) -> Any:
        job = await bench.start(approval.Approval(what="a kettle", wait_s=6.5 * approval.DAY_S))
        await bench.crash()
        assert await job.result() is None
        assert len(await job.updates()) == 1 + 6
        return round(bench.now_s / approval.DAY_S, 1)

    assert run(scenario, approval) == 6.5


# ---- children


async def counting(bench: Bench) -> Any:
    job = await bench.start(fan_out.Primes(below=100, parts=3))
    return await job.result()


def test_each_part_is_counted_once() -> None:
    report = assert_crash_consistent(counting, fan_out)
    assert report.outcome["returned"] == 25
    assert [update["done"] for update in report.outcome["Primes 1"]["log"][:-1]] == [1, 2, 3]
