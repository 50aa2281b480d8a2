"""The event loop's pulse, and what is said of who blocks it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from orbit.worker.actor import Actor
from orbit.worker.calls import call
from orbit.worker.frames import Frame, Kind
from orbit.worker.lease import clock
from orbit.worker.metrics import Metrics
from orbit.worker.scopes import run_scope
from orbit.worker.watchdog import Pulse
from tests.support.waiting import soon


@pytest.fixture
def now() -> Iterator[list[float]]:
    time = [1000.0]
    with clock(lambda: time[0]):
        yield time


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


def actor() -> Actor:
    """As much of one as a piece of its code needs."""
    made = object.__new__(Actor)
    made.around = SimpleNamespace(watch=None, middleware=())  # type: ignore[assignment]
    made.cls = SimpleNamespace(__module__=__name__)  # type: ignore[assignment]
    made.options = SimpleNamespace(name="Blocker", turn_timeout_s=None)  # type: ignore[assignment]
    made.grant = SimpleNamespace(tx="tx-of-the-blocker")  # type: ignore[assignment]
    return made


def watched(pulse: Pulse, now: list[float]) -> float:
    """A look, a second after the one before."""
    now[0] += 1.0
    return pulse.watch()


def in_a_thread(work: Callable[[], object]) -> None:
    """Do it there, this thread waiting: as one that blocks its loop."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


async def test_who_blocks_the_loop_is_named_once(now: list[float], said: list[Any]) -> None:
    metrics = Metrics()
    pulse = Pulse(0.4, metrics)
    pulse.start()

    def look() -> None:
        assert [watched(pulse, now) for _ in range(6)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    async def run() -> None:
        in_a_thread(look)

    blocker = actor()
    await call(blocker, Frame(blocker, Kind.RUN, "run", run_scope(0)), run)
    (line,) = said
    assert (line["event"], line["seconds"]) == ("the event loop is blocked", 2.0)
    assert (line["state"], line["tx"], line["hook"]) == ("Blocker", "tx-of-the-blocker", "run")
    path, number = line["where"].rsplit(":", 1)
    lines, first = inspect.getsourcelines(in_a_thread)
    assert path == __file__
    assert int(number) in range(first, first + len(lines))
    assert "in_a_thread(look)" in line["stack"]
    assert "calls.py" not in line["stack"]
    assert metrics.blocked._value.get() == 1
    pulse.stop()


async def test_the_next_blockage_is_another_one(now: list[float], said: list[Any]) -> None:
    metrics = Metrics()
    pulse = Pulse(0.001, metrics)
    pulse.start()
    for _ in range(2):
        in_a_thread(lambda: [watched(pulse, now) for _ in range(3)])
        await until_beaten(pulse, now)
    assert [line["event"] for line in said] == ["the event loop is blocked"] * 2
    assert (metrics.blocked._value.get(), metrics.blocked_s._value.get()) == (2, 6.0)
    pulse.stop()


async def test_a_process_that_stood_still_says_so_when_it_wakes(now: list[float], said: list[Any]) -> None:
    metrics = Metrics()
    pulse = Pulse(0.001, metrics)
    pulse.start()
    now[0] += 30.0
    in_a_thread(pulse.watch)  # it wakes first, and finds the loop where it always waits
    await until_beaten(pulse, now)
    (line,) = said
    assert (line["event"].startswith("the whole process stood still"), line["seconds"]) == (True, 30.0)
    assert metrics.blocked._value.get() == 1
    pulse.stop()


async def until_beaten(pulse: Pulse, now: list[float]) -> None:
    await soon(lambda: pulse._last_s == now[0])
