"""How long it takes until everybody has something new."""

from __future__ import annotations

from orbit.verify.recovery import Recovery

A, B = ("client 1", "tx"), ("client 2", "tx")


def test_a_fault_is_over_when_everybody_has_heard_something() -> None:
    recovery = Recovery()
    recovery.begin("cut", 1.0, [A, B])
    assert recovery.heard(A, 2.0) == []
    assert recovery.heard(A, 3.0) == []
    [over] = recovery.heard(B, 4.5)
    assert over.took_s == 3.5
    assert recovery.heard(B, 5.0) == []
    assert recovery.times_s("cut") == (3.5, 3.5)


def test_each_fault_is_counted_by_itself() -> None:
    recovery = Recovery()
    for at_s in (1.0, 2.0, 3.0):
        recovery.begin("cut", at_s, [A])
    assert len(recovery.heard(A, 5.0)) == 3
    recovery.begin("latency", 6.0, [A])
    recovery.skip("latency")
    assert recovery.times_s("cut") == (3.0, 4.0)
    assert recovery.times_s("latency") is None
    assert (recovery.count("cut"), recovery.count("latency"), recovery.skipped) == (3, 1, {"latency": 1})


def test_who_leaves_is_not_waited_for() -> None:
    recovery = Recovery()
    recovery.begin("cut", 1.0, [A, B])
    recovery.heard(A, 2.0)
    recovery.forget(B[0])
    assert [wait.took_s for wait in recovery.heard(A, 3.0)] == [2.0]


def test_where_nobody_waits_it_is_over_at_once() -> None:
    assert Recovery().begin("cut", 1.0, []).took_s == 0.0
