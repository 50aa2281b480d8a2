"""What a worker process is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from orbit.config import Limits, RetryPolicy, Timing
from orbit.store.durability import Durability
from orbit.store.types import StoreSettings


def _print(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker.

    Attributes:
        app: `module`, `module:State` or a path to a `.py` file.
        redis: The URL of the deployment's Redis.
        concurrency: At most so many transactions at once.
        queues: The queues that it serves; what was started on one of them may be of any State of `app`. None given:
            those that its States name, and `default`.
        lease_s / drain_s / grace_s: See `orbit.config.Timing`.
        linger_s: How long a transaction with nothing to do is kept in memory.
        health_port: Where `/livez`, `/readyz` and `/metrics` are served; None for nowhere.
        partitions / durability: Recorded at a deployment's first use, checked afterwards; None: whatever is recorded.
        say: Is told the lines that the process prints.
        rebuild_always: Rebuild the fields after every commit (`orbit dev`).
        processes: How many processes there may be for steps with `in_process`.
        alone: The command that goes on with one transaction in a process of its own (`orbit alone`); empty: none does.
        stop: Set to drain.
    """

    app: str
    redis: str
    concurrency: int = 100
    queues: tuple[str, ...] = ()
    lease_s: float = Timing().lease_s
    drain_s: float = Timing().drain_s
    grace_s: float = Timing().grace_s
    linger_s: float = 3.0
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    namespace: str = "orbit"
    partitions: int | None = None
    durability: Durability | None = None
    say: Callable[[str], None] = _print
    rebuild_always: bool = False
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)
    alone: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def store_settings(self) -> StoreSettings:
        return StoreSettings(
            namespace=self.namespace,
            partitions=self.partitions,
            durability=self.durability,
            inbox_messages=self.limits.inbox_messages,
            grace_s=self.grace_s,
        )
