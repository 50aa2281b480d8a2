"""What probes say of a subscription."""

from __future__ import annotations

from orbit.store.probing import Pace, Probes


def probes(*partitions: int, deaf_s: float = 3.0) -> Probes:
    made = Probes(Pace(probe_s=1.0, deaf_s=deaf_s))
    made.keep(partitions, 0.0)
    return made


def publish(one: Probes, partition: int, receivers: int = 1) -> int:
    number = one.next(partition)
    one.published(partition, number, receivers)
    return number


def test_it_delivers_once_each_channel_was_heard() -> None:
    one = probes(0, 1)
    assert not one.delivers(0.0)
    assert one.heard(0, one.next(0), 1.0)
    assert not one.delivers(1.0)
    assert one.heard(1, one.next(1), 1.5)
    assert one.delivers(1.5)
    assert one.delivers(3.9)
    assert not one.delivers(4.0), "the first was heard 3 s ago"


def test_nothing_to_probe_is_nothing_that_delivers() -> None:
    assert not Probes(Pace()).delivers(0.0)


def test_an_old_probe_says_nothing() -> None:
    one = probes(0)
    first, second = one.next(0), one.next(0)
    assert one.heard(0, second, 1.0)
    assert not one.heard(0, first, 3.0)
    assert not one.delivers(4.0)


def test_deaf_after_so_many_that_were_published_and_not_heard() -> None:
    one = probes(0)
    one.heard(0, publish(one, 0), 0.0)
    publish(one, 0)
    publish(one, 0)
    assert not one.deaf
    publish(one, 0)
    assert one.deaf
    one.heard(0, publish(one, 0), 9.0)
    assert not one.deaf


def test_what_redis_did_not_confirm_makes_nobody_deaf() -> None:
    one = probes(0)
    for _ in range(10):
        one.next(0)
    assert not one.deaf


def test_heard_before_it_was_confirmed() -> None:
    one = probes(0)
    for _ in range(10):
        number = one.next(0)
        one.heard(0, number, 0.0)
        one.published(0, number, 0)
    assert not one.deaf
    assert one.delivers(0.0)


def test_delivered_to_nobody_twice_in_a_row() -> None:
    one = probes(0, deaf_s=60.0)
    one.heard(0, publish(one, 0), 0.0)
    publish(one, 0, receivers=0)
    assert not one.delivers(0.0)
    assert not one.deaf
    publish(one, 0, receivers=1)
    publish(one, 0, receivers=0)
    assert not one.deaf
    publish(one, 0, receivers=0)
    assert one.deaf


def test_a_new_subscription_is_judged_by_its_own_probes() -> None:
    one = probes(0)
    before = one.next(0)
    one.heard(0, publish(one, 0), 0.0)
    late = one.next(0)
    one.begin_anew()
    assert not one.delivers(0.0)
    assert not one.heard(0, before, 0.0)
    assert not one.heard(0, late, 0.0)
    one.published(0, late, 0)
    publish(one, 0, receivers=0)
    assert not one.deaf, "what went out before doesn't count"
    assert one.heard(0, one.next(0), 0.0)
    assert one.delivers(0.0)


def test_channels_come_and_go() -> None:
    one = probes(0)
    assert one.keep((0, 5), 0.0) == ((5,), ())
    assert not one.delivers(0.0)
    one.heard(0, one.next(0), 0.0)
    one.heard(5, one.next(5), 0.0)
    assert one.keep((0, 7), 1.0) == ((7,), (5,))
    assert one.delivers(1.0), "one that comes to others that deliver has its time to prove itself"
    assert not one.delivers(4.0)
    assert not one.heard(5, 9, 4.0)
    one.published(5, 9, 0)
