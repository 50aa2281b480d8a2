"""Listing 100,000 transactions, page by page, while others are started."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.store import Store
from tests.support.processes import Stage

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
COUNT = 100_000
RARE = 50
AT_ONCE = 250


def new(number: int) -> t.NewTransaction:
    state = "Even" if number % 2 == 0 else "Odd"
    return t.NewTransaction(TxId(f"transaction-{number:08d}"), state, 1, "default", b"{}", "digest", False, 100, 60.0)


async def start_all(store: Store, numbers: range) -> None:
    left = iter(numbers)

    async def some() -> None:
        for number in left:
            await store.start(new(number))

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


class Pages:
    """Walks over a listing. `slowest_s`: the page that took longest."""

    def __init__(self, stage: Stage, edge: str) -> None:
        self.stage, self.edge = stage, edge
        self.count = 0
        self.slowest_s = 0.0

    async def all(self, meanwhile: Callable[[], Any] | None = None, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        while True:
            began_s = time.monotonic()
            answer = await self.stage.http.get(f"{self.edge}/v1/transactions", params=query | page)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            assert answer.status_code == 200, answer.text
            self.count += 1
            told = answer.json()
            found += told["transactions"]
            if told["next"] is None:
                return found
            page = {"page": told["next"]}
            if meanwhile is not None:
                await meanwhile()


async def test_every_one_once_newest_first(stage: Stage, seed: int, measured: Callable[[str], None]) -> None:
    redis = (await stage.embedded()).url
    store = await Store.open(redis, t.StoreSettings())
    edge = await stage.edge(redis)
    pages = Pages(stage, edge.url)
    more = iter(range(COUNT, 2 * COUNT))
    try:
        began_s = time.monotonic()
        await start_all(store, range(COUNT))
        started_s = time.monotonic() - began_s
        rare = sorted(random.Random(seed).sample(range(COUNT), RARE))
        for number in rare:
            assert isinstance(await store.cancel(TxId(f"transaction-{number:08d}"), ""), t.CancelSet)

        listed = await pages.all(lambda: store.start(new(next(more))), limit="1000")
        whole, slowest_s = pages.count, pages.slowest_s
        even = await pages.all(state="Even", limit="1000")
        cancelled = await pages.all(status="cancelled", limit="1000")
        neither = await pages.all(state="Nobody")
    finally:
        await store.close()

    old = {f"transaction-{number:08d}" for number in range(COUNT)}
    assert {one["id"] for one in listed} >= old
    assert len({one["id"] for one in listed}) == len(listed), "one that is started meanwhile shifts no page"
    made = [one["created_at"] for one in listed]
    assert made == sorted(made, reverse=True)
    assert len({one["id"] for one in even} & old) == COUNT // 2
    assert {one["state"] for one in even} == {"Even"}
    assert sorted(one["id"] for one in cancelled) == [f"transaction-{number:08d}" for number in rare]
    assert neither == []
    measured(
        f"{COUNT} transactions started in {started_s:.1f} s, listed in {whole} pages, the slowest in {slowest_s:.2f} s;"
        f" with filters {pages.count - whole} more pages, the slowest in {pages.slowest_s:.2f} s"
    )
