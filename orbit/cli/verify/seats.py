"""A worker or an edge of the run, whichever process it is at the moment."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from orbit.cli.children import ORBIT, Child, ending, url_in
from orbit.cli.failures import CommandError
from orbit.verify.proxy import Proxy

SKEWED = (sys.executable, "-P", "-m", "orbit.cli.verify.skewed")
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """How wrong a process's clocks are."""

    offset_s: float
    rate: float


class Seat:
    """One process of the deployment, ended and started again in the same place.

    Attributes:
        link: Its way to Redis; None where it has no proxy.
        front: Its clients' way to it, for an edge.
        busy: Something is being done to it.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, env: dict[str, str], hear: Callable[[str], None],
        link: Proxy | None, front: Proxy | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.link = link
        self.front = front
        self.busy = False
        self.troubles: list[str] = []
        self._arguments = list(arguments)
        self._env, self._hear = env, hear
        self._child: Child | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else 0

    async def start(self, clocks: Clocks | None = None) -> None:
        """Start it and return when it is ready.

        Raises:
            CommandError: It isn't, in its time.
        """
        command = [*ORBIT] if clocks is None else [*SKEWED, str(clocks.offset_s), str(clocks.rate)]
        self._child = Child(self.name, [*command, *self._arguments], self._hear, self._env)
        await self._child.start()
        try:
            async with asyncio.timeout(START_S):
                line = await self._child.ready()
        except TimeoutError:
            raise CommandError(f"{self.name} wasn't ready in {START_S:g} s: {self._child.last_line}") from None
        if self.front is not None:
            self.front.lead_to(url_in(line))
        self._watch = asyncio.create_task(self._note_end(self._child))

    async def _note_end(self, child: Child) -> None:
        """Nobody ended it: then its end is one of the things that are wrong."""
        code = await child.ended()
        self.troubles.append(f"{self.name} {ending(code)} by itself: {child.last_line}")

    def _expect_end(self) -> Child:
        assert self._child is not None
        if self._watch is not None:
            self._watch.cancel()
        return self._child

    async def kill(self) -> None:
        """SIGKILL; returns once it is gone."""
        child = self._expect_end()
        child.signal(signal.SIGKILL)
        await child.ended()

    async def replace(self, within_s: float, begun: Callable[[], None]) -> None:
        """Start another one in its place, then SIGTERM; returns once it has left.

        That it doesn't leave in time, or with another status than 0, is noted.

        Args:
            begun: Called as it is told to leave.
        """
        child = self._expect_end()
        try:
            await self.start()
        finally:
            begun()
            child.signal(signal.SIGTERM)
            await self._left(child, within_s)

    async def _left(self, child: Child, within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                code = await child.ended()
                if code:
                    self.troubles.append(f"{self.name} {ending(code)} when it was drained: {child.last_line}")
                return
        self.troubles.append(f"{self.name} hadn't left {within_s:g} s after SIGTERM")
        child.signal(signal.SIGKILL)
        await child.ended()

    def pause(self) -> None:
        """SIGSTOP."""
        if self._child is not None:
            self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it with the run, however it is."""
        if self._child is None:
            return
        self._expect_end()
        self.resume()
        await self._child.stop(3.0)

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive
