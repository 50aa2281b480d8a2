"""Orbit."""

from benchmarks.mark import called
from orbit import State


class Noop(State):
    async def run(self) -> None:
        called()
