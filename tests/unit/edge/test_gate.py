"""What may go on together, and what only alone."""

from __future__ import annotations

import asyncio

import pytest

from orbit.edge.gate import Gate


class Scene:
    """A gate, and what went on in it, in order."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.done: list[str] = []
        self.go_on = asyncio.Event()

    async def passing(self, name: str) -> None:
        async with self.gate.passing():
            await self.go_on.wait()
            self.done.append(name)

    async def shut(self, name: str) -> None:
        async with self.gate.shut():
            self.done.append(name)
            await asyncio.sleep(0)
            self.done.append(f"{name} over")


async def begun(*work: asyncio.Task[None]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_it_is_shut_once_those_inside_are_through(scene: Scene) -> None:
    first = [asyncio.create_task(scene.passing(name)) for name in ("a", "b")]
    await begun(*first)
    shutting = asyncio.create_task(scene.shut("shut"))
    await begun(shutting)
    late = asyncio.create_task(scene.passing("late"))
    await begun(late)
    assert scene.done == []
    scene.go_on.set()
    await asyncio.gather(*first, shutting, late)
    assert scene.done == ["a", "b", "shut", "shut over", "late"]


async def test_one_shuts_it_at_a_time(scene: Scene) -> None:
    await asyncio.gather(scene.shut("one"), scene.shut("two"))
    assert scene.done == ["one", "one over", "two", "two over"]


async def test_who_gives_up_shutting_it_leaves_it_open(scene: Scene) -> None:
    inside = asyncio.create_task(scene.passing("a"))
    await begun(inside)
    shutting = asyncio.create_task(scene.shut("shut"))
    await begun(shutting)
    shutting.cancel()
    await asyncio.gather(shutting, return_exceptions=True)
    scene.go_on.set()
    await asyncio.gather(inside, scene.passing("b"))
    assert scene.done == ["a", "b"]
