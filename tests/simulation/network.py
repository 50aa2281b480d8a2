"""The simulated network: bytes travel in order, take some time, and may never arrive."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.simulation.loop import Process, SimLoop

_STEP_S = 2e-6
"""What is sent after something arrives after it."""


class Network:
    """How long things take on their way.

    Attributes:
        slow: How likely it is that something is held up for long.
        slow_s: For how long at most.
    """

    def __init__(self, loop: SimLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.slow = 0.0
        self.slow_s = 0.5

    def delay_s(self) -> float:
        draw = self.rng.random()
        if draw < self.slow:
            return self.rng.uniform(0.0, self.slow_s)
        return 0.0002 + 0.002 * draw * draw


class Way:
    """One direction of a connection. `deliver` is called in the process at its end, in the order of sending."""

    def __init__(self, network: Network, end: Process, deliver: Callable[[Any], object]) -> None:
        self._network = network
        self._end = end
        self._deliver = deliver
        self._last_s = 0.0
        self.cut = False

    def send(self, what: Any) -> None:
        """Put something on its way; where the way is cut it never arrives."""
        if self.cut:
            return
        loop = self._network.loop
        self._last_s = max(self._last_s + _STEP_S, loop.time() + self._network.delay_s())
        loop.call_at(self._last_s, self._arrive, what, context=self._end.context)

    def _arrive(self, what: Any) -> None:
        if not self.cut:
            self._deliver(what)
