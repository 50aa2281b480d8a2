"""How steps are run: again when they raise, within a time, in a process; the key that names them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from orbit import Connection, UsageError, current_step
from orbit.worker.processes import Processes
from tests.integration.house import House, Tap
from tests.integration.probes import Probe, Probed, forever
from tests.support.waiting import soon


@pytest.fixture
async def processes(house: House) -> AsyncIterator[Processes]:
    processes = house.options["processes"] = Processes(2)
    yield processes
    await processes.close()


async def failing(times: int) -> str:
    """Raises so many times."""
    step = current_step()
    Probed.probe.seen.append((step.attempt, step.key))
    await step.send_update(f"attempt {step.attempt}")
    if step.attempt <= times:
        raise ValueError(f"attempt {step.attempt}")
    return "done"


class Retried(Probed, stays_open=False, retries=0):
    times: int = 2

    async def run(self) -> Any:
        return await self.transaction.step("work", failing, self.times, retries=2, backoff_s=0.001)


async def test_a_step_is_tried_again_under_the_same_key(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Retried)
    await stay.leaving()
    assert await house.end(tx) == ("finished", "done")
    attempts, keys = zip(*probe.seen, strict=True)
    assert attempts == (1, 2, 3)
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert await house.updates(tx) == ["attempt 1", "attempt 2", "attempt 3"]


async def test_when_its_retries_are_spent_its_error_comes_out(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Retried, '{"times": 5}')
    await stay.leaving()
    assert (await house.end(tx))[0] == "failed"
    assert [attempt for attempt, _ in probe.seen] == [1, 2, 3]


async def test_its_key_is_the_same_after_a_crash_and_another_elsewhere(house: House, probe: Probe) -> None:
    tx = await house.start(Retried, '{"times": 0}')
    tap = Tap(house.store)
    tap.crash_before = 2  # the step has run, its result isn't recorded
    stay = await house.claim(Retried, tx, tap)
    await tap.crashed.wait()
    await stay.kill()
    await (await house.claim(Retried, tx)).leaving()
    (_, first), (_, second) = probe.seen
    assert first == second
    _, stay = await house.run(Retried, '{"times": 0}')
    await stay.leaving()
    assert probe.seen[-1][1] != first


class Slow(Probed, stays_open=False, retries=0):
    async def run(self) -> list[str]:
        found = []
        for name, fn in (("async", forever), ("plain", plain_forever)):
            try:
                await self.transaction.step(name, fn, timeout_s=0.05)
            except TimeoutError:
                found.append(name)
        return found


def plain_forever() -> None:
    Probed.probe.hold.wait()


async def test_a_step_that_takes_too_long(house: House, probe: Probe) -> None:
    tx, stay = await house.run(Slow)
    await stay.leaving()
    assert await house.end(tx) == ("finished", ["async", "plain"])


class Names(Probed):
    async def on_update(self, connection: Connection, data: Any) -> None:
        await self.transaction.step("key", self.note)

    async def note(self) -> None:
        Probed.probe.seen.append(current_step().key)


async def test_the_key_of_each_message_is_another(house: House, probe: Probe) -> None:
    tx = await house.start(Names)
    await house.send(tx, 1)
    await house.send(tx, 2)
    await (await house.claim(Names, tx)).idle()
    assert len(set(probe.seen)) == 2


def test_outside_of_a_step_there_is_none() -> None:
    with pytest.raises(UsageError, match="no step runs here"):
        current_step()


class InPlace(Probed, stays_open=False, retries=0):
    seen: list[int] = [0]  # noqa: RUF012 - a State is a pydantic model, which copies its defaults

    async def run(self) -> list[int]:
        try:
            await self.transaction.step("append", self.append)
        except UsageError as error:
            Probed.probe.errors.append(error)
        return self.seen

    async def append(self) -> None:
        self.seen.append(1)
        await Probed.probe.stop_here()

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.seen.append(data)


async def test_a_field_changed_in_place_is_found_and_dropped(house: House, probe: Probe) -> None:
    probe.go.set()
    tx, stay = await house.run(InPlace)
    await stay.leaving()
    assert "step 'append': a step changed a field in place" in str(probe.errors[0])
    assert await house.end(tx) == ("finished", [0])


async def test_a_handler_beside_it_keeps_its_own_change(house: House, probe: Probe) -> None:
    tx, stay = await house.run(InPlace)
    await probe.there.wait()
    await house.send(tx, 7)
    await soon(lambda: stay.actor.history.number >= 1)
    probe.go.set()
    await stay.leaving()
    assert len(probe.errors) == 1
    assert await house.end(tx) == ("finished", [0, 7])


class HowNot(Probed, stays_open=False, retries=0):
    what: dict[str, Any]

    async def run(self) -> None:
        await self.transaction.step("x", forever, **self.what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ('{"retries": -1}', "retries must be a whole number"),
        ('{"retries": 1.5}', "retries must be a whole number"),
        ('{"timeout_s": 0}', "timeout_s must be seconds above 0"),
        ('{"backoff_s": -1}', "backoff_s must be seconds from 0 on"),
        ('{"in_process": true}', "in_process takes a plain function"),
    ],
)
async def test_how_a_step_can_not_be_run(house: House, probe: Probe, what: str, said: str) -> None:
    tx, stay = await house.run(HowNot, f'{{"what": {what}}}')
    await stay.leaving()
    assert said in ((await house.store.get(tx)).trace or "")  # type: ignore[union-attr]


# ---- in a process


def crunch(n: int) -> list[Any]:
    step = current_step()
    for part in range(n):
        step.sync.send_update({"part": part})
    return [os.getpid(), step.name, step.attempt, len(step.key)]


def burn(path: str) -> None:
    """Says that it runs, and never ends."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while True:
        pass


def leave(_: object) -> None:
    os._exit(3)


def give_lock() -> Any:
    return threading.Lock()


def raise_own() -> None:
    class Own(Exception):
        """Can't be pickled: it belongs to this function."""

    raise Own("what it says")


class InProcess(Probed, stays_open=False, retries=0):
    fn: str
    args: list[Any] = []  # noqa: RUF012 - a State is a pydantic model, which copies its defaults
    timeout_s: float | None = None

    async def run(self) -> Any:
        fn = {"local": lambda: None}.get(self.fn) or globals()[self.fn]
        try:
            return await self.transaction.step("work", fn, *self.args, in_process=True, timeout_s=self.timeout_s)
        except (UsageError, OSError, Exception) as error:
            return [type(error).__name__, str(error)]


async def run_in_process(house: House, fn: str, *args: Any, timeout_s: float | None = None) -> tuple[Any, Any]:
    import json

    tx, stay = await house.run(InProcess, json.dumps({"fn": fn, "args": args, "timeout_s": timeout_s}))
    await stay.leaving()
    return tx, (await house.end(tx))[1]


async def test_a_step_in_a_process_sends_its_progress(house: House, probe: Probe, processes: Processes) -> None:
    tx, result = await run_in_process(house, "crunch", 3)
    assert result[0] != os.getpid()
    assert result[1:] == ["work", 1, 32]
    assert await house.updates(tx) == [{"part": 0}, {"part": 1}, {"part": 2}]
    _, again = await run_in_process(house, "crunch", 0)
    assert again[0] == result[0], "a process that is free is used again"


@pytest.mark.parametrize(
    ("fn", "args", "kind", "said"),
    [
        ("local", (), "UsageError", "in_process takes a function of a module"),
        ("give_lock", (), "UsageError", "its result can't be pickled"),
        ("raise_own", (), "RuntimeError", "Own: what it says"),
        ("leave", (1,), "ProcessDied", "its process ended with 3"),
        ("crunch", ("x",), "TypeError", "cannot be interpreted"),
    ],
)
async def test_what_goes_wrong_in_a_process(
    house: House, probe: Probe, processes: Processes, fn: str, args: Any, kind: str, said: str
) -> None:
    _, (found, text) = await run_in_process(house, fn, *args)
    assert found == kind
    assert said in text
    _, fine = await run_in_process(house, "crunch", 1)
    assert fine[1] == "work"


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_at_its_time_limit_the_process_is_ended(
    house: House, probe: Probe, processes: Processes, tmp_path: Any
) -> None:
    path = tmp_path / "pid"
    _, (kind, _) = await run_in_process(house, "burn", str(path), timeout_s=5.0)
    assert kind == "TimeoutError"
    await soon(lambda: not alive(int(path.read_text())))


class Burning(Probed, stays_open=False):
    path: str

    async def run(self) -> None:
        await self.transaction.step("burn", burn, self.path, in_process=True)


async def test_a_cancel_ends_the_process_at_once(
    house: House, probe: Probe, processes: Processes, tmp_path: Any, measured: Callable[[str], None]
) -> None:
    path = tmp_path / "pid"
    tx, stay = await house.run(Burning, f'{{"path": "{path}"}}')
    await soon(lambda: (path.exists() and path.read_text()))
    await house.store.cancel(tx, "enough")
    began = time.monotonic()
    stay.actor.note_cancel("enough")
    await stay.leaving()
    await soon(lambda: not alive(int(path.read_text())))
    measured(f"from the cancel to the end of the step's process: {1000 * (time.monotonic() - began):.0f} ms")
    assert (await house.end(tx))[0] == "cancelled"
