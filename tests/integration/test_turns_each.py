"""`each`: one turn per item, its place committed with it."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import Field

from orbit import STOP, UsageError
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed, nothing

# ---- each


class Looping(Probed, stays_open=False):
    done: list[int] = Field(default_factory=list)

    async def run(self) -> list[int]:
        await self.transaction.each("loop", range(10), self.body)
        return self.done

    async def body(self, item: int) -> object:
        got = await self.transaction.step("double", self.double, item)
        self.done.append(got)
        await self.transaction.send_update(got)
        return STOP if item == 4 else None

    async def double(self, item: int) -> int:
        return item * 2


@pytest.mark.parametrize("after", [False, True])
async def test_each_over_a_crash_at_every_commit(house: House, after: bool) -> None:
    for at in range(1, 13):
        tx = await house.start(Looping)
        tap = Tap(house.store)
        if after:
            tap.crash_after = at
        else:
            tap.crash_before = at
        stay = await house.claim(Looping, tx, tap)
        await asyncio.wait((asyncio.ensure_future(tap.crashed.wait()), stay.task), return_when="FIRST_COMPLETED")
        assert tap.crashed.is_set(), f"fewer than {at} commits"
        await stay.kill()
        if (await house.store.get(tx)).status != "finished":  # type: ignore[union-attr]
            again = await house.claim(Looping, tx)
            await again.leaving()
        assert await house.updates(tx) == [0, 2, 4, 6, 8]
        assert await house.end(tx) == ("finished", [0, 2, 4, 6, 8])


async def test_each_forgets_the_names_of_its_items(house: House) -> None:
    _, stay = await house.run(Looping)
    await stay.leaving()
    most = 0
    names: set[str] = set()
    for commit in stay.tap.commits:
        names |= {name for name, _ in commit.names}
        names -= set(commit.forgotten)
        most = max(most, len(names))
    assert most <= 2
    assert not names


class BadBody(Probed, stays_open=False):
    n: int = 0

    async def run(self) -> int:
        try:
            await self.transaction.each("loop", [1, 2, 3], self.body)
        except ValueError as error:
            Probed.probe.errors.append(error)
        return self.n

    async def body(self, item: int) -> None:
        self.n += 1
        await self.transaction.send_update(item)
        for verb in (
            lambda: self.transaction.each("inner", [1], self.body),
            self.transaction.checkpoint,
            self.transaction.restart,
            lambda: self.transaction.step("late", nothing),
        ):
            try:
                await verb()
            except UsageError as error:
                Probed.probe.seen.append(str(error).split(":")[0])
        if item == 2:
            raise ValueError


async def test_a_body_that_raises_leaves_no_trace_and_loops_do_not_nest(house: House, probe: Probe) -> None:
    tx, stay = await house.run(BadBody)
    await stay.leaving()
    assert await house.updates(tx) == [1]
    assert await house.end(tx) == ("finished", 1)
    assert len(probe.errors) == 1
    assert probe.seen == ["each", "checkpoint", "restart", "step"] * 2
