"""Exponential backoff with full jitter.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015): the whole wait is drawn, so that clients which
lost one edge together don't come back together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits from 0 to `first_s`, then to twice that, and so on up to `max_s`."""

    first_s: float = 0.2
    max_s: float = 15.0

    def wait_s(self, attempt: int) -> float:
        """How long to wait before attempt number `attempt`, from 0."""
        return random.uniform(0, min(self.max_s, self.first_s * 2 ** min(attempt, 30)))
