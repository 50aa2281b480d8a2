"""Fan out: a hundred children, each with a part of the work, on all workers of the fleet; and the sum of their results.

    orbit dev examples/fan_out.py --workers 2
    orbit start Primes --follow

A child is a transaction of its own: it is started once with the turn that starts it, runs on any worker, can be watched
and retried by itself, and is cancelled with its parent. While the parent waits for it, it costs nothing.
"""

from typing import Any

from orbit import State


class Part(State, retries=5):
    """Counts the primes from `first` to before `last`. A plain `run` has a thread of its own."""

    first: int
    last: int

    def run(self) -> int:
        return sum(is_prime(n) for n in range(self.first, self.last))


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


class Primes(State):
    """Counts the primes below `below`, in `parts` parts."""

    below: int = 100_000
    parts: int = 100
    done: int = 0
    found: int = 0

    async def run(self) -> int:
        edges = [self.below * n // self.parts for n in range(self.parts + 1)]
        # Those that were started before a crash aren't started again: they are known by their names.
        children = [
            await self.transaction.start(f"part {n}", Part(first=edges[n], last=edges[n + 1]))
            for n in range(self.parts)
        ]
        while self.done < self.parts:
            found: int = await children[self.done].result()
            self.found += found
            self.done += 1
            await self.transaction.send_update({"done": self.done, "of": self.parts, "found": self.found})
        return self.found

    def view(self) -> dict[str, Any]:
        return {"done": self.done, "of": self.parts, "found": self.found}
