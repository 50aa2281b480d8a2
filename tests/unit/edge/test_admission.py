"""Who is turned away, and until when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orbit.edge.admission import AGAIN_MS, SHED_S, Admission, Capacity, allowed_files
from orbit.errors import Overloaded


def admission(connections: int = 2, attaching: int = 2, lag_s: float = 1.0) -> Admission:
    return Admission(Capacity(connections, attaching, lag_s))


def test_as_many_connections_as_may_be() -> None:
    one = admission()
    one.newcomer(1, 0.0)
    with pytest.raises(Overloaded) as caught:
        one.newcomer(2, 0.0)
    assert caught.value.retry_after_ms is not None
    assert AGAIN_MS[0] <= caught.value.retry_after_ms <= AGAIN_MS[1]
    assert one.refused == 1


def test_unless_told_open_files_are_the_limit() -> None:
    assert 0 < Admission(Capacity()).connections < allowed_files()


def test_they_come_again_at_different_times() -> None:
    one = admission()
    times = set()
    for _ in range(50):
        with pytest.raises(Overloaded) as caught:
            one.newcomer(2, 0.0)
        times.add(caught.value.retry_after_ms)
    assert len(times) > 10


def test_so_many_attaches_at_once() -> None:
    one = admission()
    with one.attach(0.0):
        with one.attach(0.0):
            assert one.attaching == 2
            with pytest.raises(Overloaded), one.attach(0.0):
                raise AssertionError("it was let in")
            with pytest.raises(Overloaded):
                one.newcomer(0, 0.0)
        one.work(0.0)
    assert one.attaching == 0


def test_one_that_fails_makes_room() -> None:
    one = admission()
    with pytest.raises(ValueError, match="failed"), one.attach(0.0):
        raise ValueError("failed")
    assert one.attaching == 0


def test_any_number() -> None:
    one = admission(attaching=0, lag_s=0.0)
    one.attaching = 10**6
    one.note_lag(60.0, 0.0)
    one.note_lag(60.0, 0.0)
    one.work(0.0)


@pytest.mark.parametrize("ask", [lambda one: one.work(5.0), lambda one: one.newcomer(0, 5.0)])
def test_a_loop_that_is_late_twice_in_a_row_has_too_much_to_do(ask: Callable[[Admission], None]) -> None:
    one = admission()
    one.note_lag(3.0, 4.0)
    ask(one)
    one.note_lag(0.1, 4.1)
    one.note_lag(3.0, 4.5)
    ask(one)
    one.note_lag(1.0, 5.0)
    with pytest.raises(Overloaded):
        ask(one)
    one.work(5.0 + SHED_S)
