"""One event loop for many simulated processes, each of which has a loop of its own as far as it can tell.

A process's callbacks run in the order in which they became ready, as asyncio promises; whose turn is next is drawn.
So every interleaving of processes is possible that their own loops allow. A process that is paused keeps what is ready
for later; of one that is dead nothing runs any more, not even a `finally`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from orbit.testing.clock import Stuck, VirtualLoop

_here: contextvars.ContextVar[Process] = contextvars.ContextVar("process")
_MOST_HANDLES = 2_000_000
"""A run that needs more goes round in circles."""
_PATIENCE = 50
"""So many times may code that is taken down wait for something."""


class Process:
    """Something that can be paused and killed.

    Attributes:
        ready: Its callbacks that may run, in their order.
        doing: Tasks of it that haven't ended.
    """

    def __init__(self, name: str, loop: SimLoop) -> None:
        self.name = name
        self.loop = loop
        self.ready: deque[asyncio.Handle] = deque()
        self.paused = False
        self.dead = False
        self._trap: tuple[int, Callable[[], object]] | None = None
        self.context = contextvars.copy_context()
        self.context.run(_here.set, self)

    def __repr__(self) -> str:
        return self.name

    def spawn(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[Any]:
        """Run `work` in this process."""
        return self.loop.create_task(work, name=name, context=self.context.copy())

    def later(self, delay_s: float, do: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Call `do` in this process after a while."""
        return self.loop.call_later(delay_s, do, *arguments, context=self.context)

    def trap(self, callbacks: int, do: Callable[[], object]) -> None:
        """Call `do` after so many more of its callbacks: in the midst of what they do at one moment. 0: never."""
        self._trap = (callbacks, do) if callbacks else None

    def stepped(self) -> None:
        """A callback of it has run."""
        if self._trap is not None:
            left, do = self._trap
            self._trap = (left - 1, do) if left > 1 else None
            if left <= 1:
                do()

    def pause(self) -> None:
        self.paused = True
        self.loop.note(self)

    def wake(self) -> None:
        self.paused = False
        self.loop.note(self)

    def kill(self) -> None:
        """From this moment on nothing of it runs."""
        self.dead = True
        self.loop.note(self)


def here() -> Process:
    """The process whose code runs."""
    return _here.get()


class _Numbered:
    """Hashed by a number, so that the order of a set of them is the same in every run."""

    _numbers = itertools.count(1)

    def _take_number(self) -> None:
        self.number = next(_Numbered._numbers)

    def __hash__(self) -> int:
        return self.number


class _Task(_Numbered, asyncio.Task):  # type: ignore[misc,type-arg]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._take_number()
        super().__init__(*arguments, **options)


class _Future(_Numbered, asyncio.Future):  # type: ignore[misc,type-arg]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._take_number()
        super().__init__(*arguments, **options)


class _Ready:
    """What asyncio takes for its queue of ready callbacks. Whose is next is drawn."""

    def __init__(self, rng: random.Random, world: Process) -> None:
        self._rng = rng
        self._world = world
        self._runnable: list[Process] = []
        self.taken = 0
        self.last = world

    def __len__(self) -> int:
        return sum(len(process.ready) for process in self._runnable)

    def __bool__(self) -> bool:
        return bool(self._runnable)

    def append(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(_here, self._world)  # type: ignore[attr-defined]
        if process.dead:
            return
        process.ready.append(handle)
        if len(process.ready) == 1 and not process.paused:
            self._runnable.append(process)

    def popleft(self) -> asyncio.Handle:
        runnable = self._runnable
        at = int(self._rng.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[at]
        handle = process.ready.popleft()
        if not process.ready:
            del runnable[at]
        self.taken += 1
        self.last = process
        return handle

    def clear(self) -> None:
        for process in self._runnable:
            process.ready.clear()
        self._runnable.clear()

    def note(self, process: Process) -> None:
        """It was paused, woken or killed."""
        if process.dead:
            process.ready.clear()
        runs = bool(process.ready) and not process.paused
        if runs and process not in self._runnable:
            self._runnable.append(process)
        elif not runs and process in self._runnable:
            self._runnable.remove(process)


class SimLoop(VirtualLoop):
    """The loop of all simulated processes. `world`: what belongs to none of them, the network and who watches."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        _Numbered._numbers = itertools.count(1)
        self.number = 0
        self._tasks: dict[_Task, None] = {}
        self.world = Process("world", self)
        self._queue = _Ready(rng, self.world)
        self._ready: Any = self._queue
        self.set_task_factory(self._make_task)

    def note(self, process: Process) -> None:
        self._queue.note(process)

    @property
    def taken(self) -> int:
        """How many callbacks have run."""
        return self._queue.taken

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def _make_task(self, loop: Any, work: Any, **options: Any) -> _Task:
        task = _Task(work, loop=loop, **options)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: Any) -> None:
        self._tasks.pop(task, None)

    def _write_to_self(self) -> None:
        """No other thread ever waits for this loop."""

    def _run_once(self) -> None:
        """As asyncio's own, without sockets: one callback, or the clock's jump to the next ones."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not self._queue:
            if not scheduled:
                raise Stuck("every process waits, and nothing is to happen any more")
            self._clock.now_s = max(self._clock.now_s, scheduled[0].when())
        now = self._clock.now_s + self._clock_resolution
        while scheduled and scheduled[0].when() < now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            self._queue.append(handle)
        if self._queue:
            handle = self._queue.popleft()
            if not handle.cancelled():
                handle._run()
            self._queue.last.stepped()
        if self._queue.taken > _MOST_HANDLES:
            raise Stuck(f"{_MOST_HANDLES} callbacks ran, and it isn't over")

    def let_go(self) -> None:
        """Take down all that was left, unseen: what a dead process never did, nobody is to hear of."""
        while self._tasks:
            task, _ = self._tasks.popitem()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            for _ in range(_PATIENCE):
                try:
                    task.get_coro().close()
                    break
                except BaseException:  # it waits in a `finally`, too
                    continue
        self._queue.clear()
