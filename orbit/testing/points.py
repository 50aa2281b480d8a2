"""Points in a State's code and its commits at which its worker can be crashed."""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from orbit.errors import OutcomeUnknown
from orbit.state import Unloaded
from orbit.store import types as t
from orbit.store.store import Store


@dataclass(frozen=True, slots=True)
class Point:
    """Where a worker may be lost: `what` tells it to people."""

    what: str


class Plan:
    """Counts the points that are passed, and crashes at one of them.

    Args:
        target: The number of the point, from 0; None: only count.
    """

    def __init__(self, target: int | None = None) -> None:
        self.passed: list[Point] = []
        self.target = target
        self.crash: Callable[[], None] = lambda: None

    @property
    def over(self) -> bool:
        return self.target is not None and len(self.passed) > self.target

    def reach(self, what: str) -> bool:
        """Pass a point; whether the worker is lost here."""
        self.passed.append(Point(what))
        return self.target == len(self.passed) - 1


class Process:
    """One worker's process, as far as a crash is concerned: once it is dead none of its code runs any more."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dead = False
        self._abandoned: list[Coroutine[Any, Any, Any]] = []

    def close(self) -> None:
        """Let go of the code that was stopped for ever; its `finally` runs now, unseen."""
        for coroutine in self._abandoned:
            try:
                # `close` would leave an async generator that it waits in as it is, for ever running.
                coroutine.throw(Unloaded("the process is dead"))
                coroutine.close()
            except BaseException:  # it is the code of a process that is long dead
                continue

    async def watch(self, name: str, work: Awaitable[Any]) -> Any:
        """Await a piece of the State's code; each time that it waits is a point."""
        if not inspect.iscoroutine(work):
            return await work
        return await self._drive(name, work)

    @types.coroutine
    def _drive(self, name: str, code: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = code.send(value) if error is None else code.throw(error)
            except StopIteration as stop:
                return stop.value
            if not self.dead and self.plan.reach(f"while {name} waits at {_place(code)}"):
                self.plan.crash()
            value = error = None
            try:
                value = yield awaited
            except BaseException as thrown:
                if self.dead:
                    self._abandoned.append(code)
                    raise
                error = thrown


def _place(code: Coroutine[Any, Any, Any]) -> str:
    """The innermost line of the State's own file."""
    own = code.cr_code.co_filename  # type: ignore[attr-defined]
    place = "?"
    inner: Any = code
    while inspect.iscoroutine(inner):
        frame = inner.cr_frame
        if frame is not None and frame.f_code.co_filename == own:
            place = f"{own}:{frame.f_lineno}"
        inner = inner.cr_await
    return place


class CrashingStore:
    """The store as one process sees it: each commit is two points, before it and after it."""

    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._process = process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def verb(*args: Any, **more: Any) -> Any:
            if self._process.dead:
                raise OutcomeUnknown("the process is dead")
            return await found(*args, **more)

        return verb

    async def commit(self, commit: t.Commit) -> t.CommitAnswer:
        process = self._process
        if process.dead:
            raise OutcomeUnknown("the process is dead")
        if process.plan.reach(f"before commit {commit.number + 1} ({_shown(commit)})"):
            process.plan.crash()
            raise OutcomeUnknown("the process is dead")
        answer = await self._store.commit(commit)
        if process.plan.reach(f"after commit {commit.number + 1} ({_shown(commit)})"):
            process.plan.crash()
            raise OutcomeUnknown("the process is dead")
        return answer


def _shown(commit: t.Commit) -> str:
    """What a commit holds, in a few words."""
    parts = [
        (f"{len(commit.entries)} updates" if len(commit.entries) > 1 else "an update") if commit.entries else "",
        "fields" if commit.snapshot is not None else "",
        ", ".join(_name(key) for key, _ in commit.names),
        "answers a message" if commit.consumed else "",
        "a child" if commit.outbox else "",
        "a timer" if commit.timers else "",
        f"the end: {commit.end.status}" if commit.end is not None else "",
    ]
    return "; ".join(part for part in parts if part) or "nothing but counts"


def _name(key: str) -> str:
    return repr(key.partition("\x1f")[2].partition("\x1e")[0])
