from __future__ import annotations

from orbit.client.backoff import Backoff


def test_waits_are_drawn_from_a_range_that_doubles_up_to_its_end() -> None:
    backoff = Backoff(first_s=1.0, max_s=5.0)
    for attempt, most_s in ((0, 1.0), (1, 2.0), (2, 4.0), (3, 5.0), (10_000, 5.0)):
        waits = [backoff.wait_s(attempt) for _ in range(200)]
        assert 0 <= min(waits) < most_s / 4
        assert most_s * 3 / 4 < max(waits) <= most_s
