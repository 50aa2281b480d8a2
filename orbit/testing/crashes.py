"""`assert_crash_consistent`: lose the worker at every point of a scenario, in turn, and see whether that shows."""

from __future__ import annotations

import difflib
import pprint
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from orbit.protocol.entries import Entry, RefusalEntry, UpdateEntry
from orbit.protocol.values import unpack
from orbit.state import State
from orbit.testing.bench import Bench, Scenario, app_of
from orbit.testing.clock import Stuck, run_virtual
from orbit.testing.job import Job, end_of
from orbit.testing.points import Plan, Point
from orbit.worker.discover import App

_REPORTED = 3
_WIDTH = 100


class CrashInconsistent(AssertionError):
    """A crash shows from outside. The text has the place and the two outcomes side by side."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was tried.

    Attributes:
        points: The places at which the worker was lost, in order.
        outcome: What the scenario comes to, each time.
    """

    points: tuple[Point, ...]
    outcome: Any

    @property
    def commits(self) -> int:
        """How many of the points are before or after a commit."""
        return sum(point.what.startswith(("before commit", "after commit")) for point in self.points)


def assert_crash_consistent(
    scenario: Scenario[Any],
    *states: type[State] | ModuleType,
    seed: int = 0,
    points: Iterable[int] | None = None,
    **options: Any,
) -> Report:
    """Run `scenario` once for each point at which its worker can be lost, and see that it comes to the same each time.

    The points are: before and after each commit; and whenever a piece of the State's code (a hook, the body of an
    `each`, a step) waits. What must be the same: of each transaction its updates, refusals and end; and what the
    scenario returns: let it return what the State did to the world outside. Before that the fields are rebuilt after
    every commit, which must not show either: so code is found that holds a reference into a field over a commit.

    It takes as many runs as there are points, each in virtual time.

    Args:
        scenario: `async def scenario(bench)`. It should wait for what it caused before it goes on: what happens at the
            same time may well come in another order after a crash.
        states: As of `run`.
        seed: For ids. The same seed goes through the same points.
        points: Only these, by their number: to run one again.
        options: See `Bench.open`.

    Raises:
        CrashInconsistent: With the place, and both outcomes.
    """
    app = app_of(states)
    expected, passed = _outcome(scenario, app, seed, options | {"rebuild_fields": False}, None)
    rebuilt, _ = _outcome(scenario, app, seed, options, None)
    found = _difference("the fields are rebuilt after every commit (a reference is held over one)", expected, rebuilt)
    faults = [found] if found else []
    for number in range(len(passed)) if points is None else points:
        if len(faults) == _REPORTED:
            break
        crashed, _ = _outcome(scenario, app, seed, options, number)
        what = passed[number].what if number < len(passed) else "past the end"
        found = _difference(f"point {number} of {len(passed)}: the worker is lost {what}", expected, crashed)
        if found:
            faults.append(found)
    if faults:
        raise CrashInconsistent(f"a crash shows (seed {seed}):\n\n" + "\n\n".join(faults))
    return Report(tuple(passed), expected)


def _outcome(
    scenario: Scenario[Any], app: App, seed: int, options: dict[str, Any], target: int | None
) -> tuple[Any, list[Point]]:
    """What the scenario comes to when the worker is lost at the point `target`, and the points that it passed."""
    plan = Plan(target)

    async def whole() -> Any:
        async with Bench.open(app, seed=seed, plan=plan, **options) as bench:
            returned = await scenario(bench)
            await bench.settle()
            return {"returned": returned, **{job.name: await _of(job) for job in bench.jobs}}

    try:
        return run_virtual(whole), plan.passed
    except Stuck as error:
        return {"stuck": str(error)}, plan.passed
    except Exception as error:  # the scenario's own: it is a part of what it comes to
        if target is None:
            raise
        return {"raised": f"{type(error).__name__}: {error}"}, plan.passed


async def _of(job: Job) -> dict[str, Any]:
    """All that a transaction shows."""
    log = await job.log()
    end = end_of(log)
    told: dict[str, Any] = {"log": [_shown(job, entry) for entry in log], "status": await job.status()}
    if end is not None:
        told["result"] = None if end.result is None else unpack(end.result)
        told["error"] = None if end.error is None else (end.error.type, end.error.message)
    else:
        told["fields"] = (await job.fields()).model_dump()
    return told


def _shown(job: Job, entry: Entry) -> Any:
    names = {client.public: name for name, client in job.clients.items()}
    if isinstance(entry, UpdateEntry):
        data = unpack(entry.data)
        return data if entry.session is None else {f"for {names.get(entry.session, entry.session)}": data}
    if isinstance(entry, RefusalEntry):
        return f"refused {names.get(entry.session, entry.session)} {entry.mid}: {entry.code}"
    return f"end: {entry.status}"


def _difference(what: str, expected: Any, found: Any) -> str | None:
    if expected == found:
        return None
    left, right = (pprint.pformat(one, width=_WIDTH, sort_dicts=False).splitlines() for one in (expected, found))
    lines = difflib.unified_diff(left, right, "without a crash", "with it", lineterm="", n=100)
    return what + "\n" + "\n".join(f"    {line}" for line in lines)
