"""What is lent to a process of its own: its lease is kept until that process says that it has taken over."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orbit.protocol.ids import Epoch, TxId
from orbit.store import types as t
from orbit.worker.isolation import Lent, Loan
from orbit.worker.lease import Lease, now_s
from tests.support.waiting import PATIENCE_S, soon

GRANT = t.Grant(TxId("t" * 16), Epoch("1" * 19), 0, t.Spec("default", "A", 1), True, 2)
CHILD = """
import json, sys
from orbit.worker.isolation import Loan

def wait(path):
    open(path).read()  # until somebody has written to it

loan = Loan.of(sys.stdin.read())
assert loan.grant.tx == "tttttttttttttttt" and loan.settings == {"lease_s": 0.1}
wait(sys.argv[1])
loan.say_begun()
wait(sys.argv[2])
"""


@dataclass
class Keeper:
    """Keeps leases; which ones the test sees."""

    kept: list[Lease] = field(default_factory=list)

    def add(self, lease: Lease) -> None:
        self.kept.append(lease)

    def remove(self, lease: Lease) -> None:
        if lease in self.kept:
            self.kept.remove(lease)

    def start(self) -> None: ...

    async def stop(self) -> None: ...


class Scene:
    """A lender, and a process that goes on when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.keeper = Keeper()
        self.draining = asyncio.Event()
        self.starting = asyncio.Semaphore(1)
        self.begin, self.end = folder / "begin", folder / "end"
        for path in (self.begin, self.end):
            os.mkfifo(path)
        lease = Lease(GRANT.tx, GRANT.epoch, 0, now_s() + 0.1)
        self.lent = Lent(Loan("worker", GRANT, {"lease_s": 0.1}), lease, self.keeper)
        self.task: asyncio.Task[bool] | None = None

    def lend(self, code: str = CHILD) -> asyncio.Task[bool]:
        command = (sys.executable, "-c", code, str(self.begin), str(self.end))
        self.task = asyncio.ensure_future(self.lent.live(command, self.starting, self.draining, 0.1))
        return self.task

    async def tell(self, path: Path) -> None:
        await asyncio.to_thread(path.write_text, "go")  # opened once it is read at the other end


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    if scene.task is not None:
        scene.task.cancel()
        await asyncio.wait((scene.task,))


async def test_a_lease_is_kept_however_long_the_start_takes(scene: Scene) -> None:
    task = scene.lend()
    await asyncio.sleep(0)
    assert scene.keeper.kept == [scene.lent.lease]
    await scene.tell(scene.begin)
    await soon(lambda: not scene.keeper.kept)
    assert not task.done(), "it goes on without its lender"
    await scene.tell(scene.end)
    await task


async def test_one_that_dies_before_it_has_begun_is_waited_for_no_longer(scene: Scene) -> None:
    await scene.lend("raise SystemExit(66)")
    assert scene.keeper.kept == [], "its lease runs out, and whoever is next counts the crash"


async def test_one_that_is_lost_before_it_has_begun_is_killed(scene: Scene) -> None:
    task = scene.lend()
    scene.lent.lost.set()
    await task
    assert scene.keeper.kept == []


async def test_one_that_is_told_to_leave_and_does_not_is_killed(scene: Scene) -> None:
    ignoring = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + CHILD
    task = scene.lend(ignoring)
    await scene.tell(scene.begin)
    scene.draining.set()
    await task


async def test_others_start_once_it_has_begun(scene: Scene) -> None:
    task = scene.lend()
    await soon(scene.starting.locked)
    await scene.tell(scene.begin)
    await asyncio.wait_for(scene.starting.acquire(), PATIENCE_S)
    assert not task.done()
    await scene.tell(scene.end)
    assert await task
    assert scene.starting.locked(), "it was given back once"


async def test_the_turn_to_start_is_given_back_by_one_that_never_began(scene: Scene) -> None:
    assert await scene.lend("raise SystemExit(66)")
    assert not scene.starting.locked()


@pytest.mark.parametrize("why", ["draining", "lost"])
async def test_one_that_waits_for_its_turn_to_start_leaves_its_grant_as_it_was(scene: Scene, why: str) -> None:
    await scene.starting.acquire()
    task = scene.lend()
    await asyncio.sleep(0)
    assert scene.keeper.kept == [scene.lent.lease], "nobody takes it for lost meanwhile"
    (scene.draining if why == "draining" else scene.lent.lost).set()
    assert not await task
    assert scene.keeper.kept == []
    scene.starting.release()
    assert not scene.starting.locked()


async def test_one_that_is_cancelled_as_its_turn_comes_gives_it_back(scene: Scene) -> None:
    """The turn is given, and in the same pass of the loop the task is cancelled."""
    await scene.starting.acquire()
    task = scene.lend()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.starting.release()
    task.cancel()
    await asyncio.wait((task,))
    assert not scene.starting.locked()
