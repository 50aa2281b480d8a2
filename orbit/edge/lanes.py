"""The order of what one client asks of one transaction.

Sends follow one another without waiting for answers; anything else waits until what came before it is answered, and
what comes after it waits for its answer. Different transactions never wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from orbit.edge.tasks import Tasks
from orbit.protocol.messages import Attach, Cancel, Detach, Send

Asked = Attach | Cancel | Detach | Send
Work = Callable[[Any], Coroutine[Any, Any, None]]


class Lane:
    """One transaction's messages, in order."""

    __slots__ = ("alone", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Asked] = deque()
        self.running = 0
        self.alone = False

    def next(self) -> Asked | None:
        """The message that may begin now."""
        if not self.waiting or self.alone:
            return None
        together = isinstance(self.waiting[0], Send)
        if self.running and not together:
            return None
        self.running += 1
        self.alone = not together
        return self.waiting.popleft()

    def done(self) -> None:
        self.running -= 1
        self.alone = False


class Lanes:
    """All of one connection.

    Attributes:
        busy: Messages that were taken and not yet answered.
    """

    def __init__(self, tasks: Tasks, work: Work, idle: Callable[[], None]) -> None:
        self.busy = 0
        self._tasks = tasks
        self._work = work
        self._idle = idle
        self._lanes: dict[str, Lane] = {}

    def put(self, message: Asked) -> None:
        """Take `message`; its work begins when what came before it allows, in a task of its own."""
        lane = self._lanes.setdefault(message.tx, Lane())
        lane.waiting.append(message)
        self.busy += 1
        self._step(message.tx, lane)

    def clear(self) -> None:
        """Forget what hasn't begun."""
        for lane in self._lanes.values():
            self.busy -= len(lane.waiting)
            lane.waiting.clear()

    def _step(self, tx: str, lane: Lane) -> None:
        while (message := lane.next()) is not None:
            self._tasks.spawn(self._do(tx, lane, message), f"{message.type} {tx[:64]}")

    async def _do(self, tx: str, lane: Lane, message: Asked) -> None:
        try:
            await self._work(message)
        finally:
            self.busy -= 1
            lane.done()
            self._step(tx, lane)
            if not lane.running and not lane.waiting:
                del self._lanes[tx]
            self._idle()
