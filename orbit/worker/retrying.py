"""Pauses between attempts."""

from __future__ import annotations

from orbit.config import RetryPolicy


def backoff_s(policy: RetryPolicy, attempt: int, luck: float) -> float:
    """The pause before attempt number `attempt` + 1: doubling up to the longest, `luck` (0 to 1) on its upper half."""
    whole_s = min(policy.first_s * 2.0 ** min(attempt - 1, 30), policy.max_s)
    return whole_s * (0.5 + 0.5 * luck)
