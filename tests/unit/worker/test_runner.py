from __future__ import annotations

from orbit.config import RetryPolicy
from orbit.worker.runner import backoff_s


def test_pauses_double_up_to_the_longest_with_jitter_on_the_upper_half() -> None:
    policy = RetryPolicy(first_s=1.0, max_s=60.0)
    assert [backoff_s(policy, n, 1.0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff_s(policy, n, 0.0) for n in range(1, 4)] == [0.5, 1, 2]
    assert backoff_s(policy, 10_000, 0.5) == 45
