"""What a worker's transactions share, and the ways in which they leave it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from orbit.config import Limits, RetryPolicy
from orbit.protocol.ids import TxId
from orbit.state import Middleware
from orbit.store.store import Store
from orbit.worker.metrics import Metrics
from orbit.worker.processes import Processes

Watch = Callable[[str, Awaitable[Any]], Awaitable[Any]]
"""Stands between a piece of a State's code, named, and whoever awaits it (tests crash it there)."""


def deliver_nothing(_tx: TxId) -> None:
    """For transactions without children."""


@dataclass(frozen=True, slots=True)
class CrashLimits:
    """What becomes of a transaction whose workers were lost, without progress in between.

    Attributes:
        alone: After so many it runs in a process of its own.
        reject: After so many the message that it noted is refused.
        fail: After so many it fails, unless a message was noted.
        hopeless: After so many it fails all the same, in the worker that claims it: its processes don't even begin.
    """

    alone: int = 2
    reject: int = 4
    fail: int = 5
    hopeless: int = 8


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all transactions of a worker share.

    Attributes:
        linger_s: How long a transaction with nothing to do is kept before it is put to sleep.
        cancel_grace_s: How long a cancel waits for the running turn before it ends that, too.
        long_turn_s: A turn that is held for longer is logged, with its place.
        long_pause_s: Who waits for longer is worth unloading.
        rebuild_always: Rebuild the fields after every commit, so that a reference held over one shows.
        context: What `orbit.lifespan` opened.
        middleware: Around each piece of a State's code, the outermost first.
        deliver / deliver_again: Is told whose outbox something was put into / is to be looked at as a whole.
        processes: Where steps with `in_process` run.
        alone: This is a process for one transaction, which lost its workers again and again.
    """

    store: Store
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    crashes: CrashLimits = field(default_factory=CrashLimits)
    lease_s: float = 10.0
    linger_s: float = 3.0
    cancel_grace_s: float = 1.0
    long_turn_s: float = 10.0
    long_pause_s: float = 10.0
    rebuild_always: bool = False
    context: Any = None
    middleware: tuple[Middleware, ...] = ()
    deliver: Callable[[TxId], None] = deliver_nothing
    deliver_again: Callable[[TxId], None] = deliver_nothing
    processes: Processes | None = None
    alone: bool = False
    watch: Watch | None = None


class Leaving(Enum):
    """Why a transaction leaves its worker."""

    ENDED = "ended"
    IDLE = "idle"
    HANDED_OVER = "handed over"
    RESTING = "resting"
    """`run` waits long to be tried again."""
    WAITING = "waiting"
    """`run` waits for a permit."""
    LAPSED = "lapsed"
    """Its lease wasn't confirmed in time."""
    GONE = "gone"
    """It isn't held any more: nothing to release."""
