"""What a worker's transactions share, and the ways in which they leave it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from orbit.config import Limits, RetryPolicy
from orbit.store.store import Store
from orbit.worker.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all transactions of a worker share.

    Attributes:
        linger_s: How long a transaction with nothing to do is kept before it is put to sleep.
        cancel_grace_s: How long a cancel waits for the running turn before it ends that, too.
        crash_limit: A transaction whose workers were lost so often, without progress in between, fails.
        long_turn_s: A turn that is held for longer is logged, with its place.
        rebuild_always: Rebuild the fields after every commit, so that a reference held over one shows.
    """

    store: Store
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    lease_s: float = 10.0
    linger_s: float = 3.0
    cancel_grace_s: float = 1.0
    crash_limit: int = 20
    long_turn_s: float = 10.0
    rebuild_always: bool = False


class Leaving(Enum):
    """Why a transaction leaves its worker."""

    ENDED = "ended"
    IDLE = "idle"
    HANDED_OVER = "handed over"
    RESTING = "resting"
    """`run` waits long to be tried again."""
    GONE = "gone"
    """It isn't held any more: nothing to release."""
