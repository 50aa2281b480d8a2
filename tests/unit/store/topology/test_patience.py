"""How often what certainly wasn't done is sent again."""

from __future__ import annotations

import asyncio

import pytest
from redis import exceptions as redis_errors

from orbit.errors import Unavailable
from orbit.store.topology.patience import Patience

TRYAGAIN = redis_errors.TryAgainError("TRYAGAIN keys are on their way")


async def test_some_redirects_are_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    async def sleep(delay_s: float) -> None:
        paused.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    patience = Patience(60.0)
    for _ in range(4):
        await patience.follow(TRYAGAIN)
    assert paused == []
    for _ in range(12):
        await patience.follow(TRYAGAIN)
    assert len(paused) == 12
    assert all(0 < pause <= 0.25 for pause in paused)
    assert paused[-1] > paused[0], "the longer it takes, the more seldom it is tried"


async def test_it_has_an_end() -> None:
    async def for_ever() -> None:
        patience = Patience(0.02)
        while True:
            await patience.pause(TRYAGAIN)

    with pytest.raises(Unavailable, match="TRYAGAIN") as caught:
        await for_ever()
    assert caught.value.retry_after_ms
