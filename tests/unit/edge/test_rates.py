"""Rates, with a clock that stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit.edge.rates import BURST_S, Meter, NoNetwork, Rates, RateSettings, address_of, networks
from orbit.errors import RateLimited


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def allowed(meter: Meter, key: str | None, now: float, tries: int = 1000) -> int:
    """How many in a row are allowed at `now`."""
    for count in range(tries):
        if meter.wait_s(key, now):
            return count
        meter.take(key, now)
    return tries


def test_a_burst_and_then_the_rate() -> None:
    meter = Meter(10.0)
    assert allowed(meter, "a", 0.0) == 10 * BURST_S
    assert meter.wait_s("a", 0.0) == pytest.approx(0.1)
    assert allowed(meter, "a", 1.05) == 10
    assert allowed(meter, "b", 1.05) == 10 * BURST_S
    assert allowed(meter, "a", 100.0) == 10 * BURST_S


def test_a_slow_rate_allows_one() -> None:
    meter = Meter(0.01)
    assert allowed(meter, "a", 0.0) == 1
    assert meter.wait_s("a", 50.0) == pytest.approx(50.0)
    assert allowed(meter, "a", 100.01) == 1


@pytest.mark.parametrize(("rate_s", "key"), [(0.0, "a"), (1.0, None)])
def test_what_is_not_counted(rate_s: float, key: str | None) -> None:
    meter = Meter(rate_s)
    assert allowed(meter, key, 0.0) == 1000
    assert len(meter) == 0


def test_the_table_is_bounded() -> None:
    meter = Meter(1.0, kept=3)
    for key in "abcaef":
        meter.take(key, 0.0)
    assert len(meter) == 3
    assert allowed(meter, "a", 0.0) == BURST_S - 2
    assert allowed(meter, "b", 0.0) == BURST_S  # forgotten


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 2), max_size=200))
def test_no_more_than_a_burst_and_the_rate(rate_s: float, pauses: list[float]) -> None:
    meter, now, count = Meter(rate_s), 0.0, 0
    for pause in pauses:
        now += pause
        if not meter.wait_s("a", now):
            meter.take("a", now)
            count += 1
    assert count <= rate_s * now + max(rate_s * BURST_S, 1) + 1e-6


KINDS: list[tuple[str, tuple[str | None, ...], tuple[str | None, ...]]] = [
    ("connection_messages_s", ("1", "ann", "::"), ("2", "ann", "::")),
    ("subject_messages_s", ("1", "ann", "::"), ("1", "bob", "::")),
    ("address_messages_s", ("1", "ann", "::"), ("1", "ann", "::1")),
    ("subject_starts_s", ("ann", "::"), ("bob", "::")),
    ("address_starts_s", ("ann", "::"), ("ann", "::1")),
]


@pytest.mark.parametrize(("name", "one", "other"), KINDS)
def test_each_kind_counts_by_its_own_key(name: str, one: Any, other: Any) -> None:
    clock = Clock()
    rates = Rates(RateSettings(**{name: 1 / 7}), clock)
    count = rates.start if "starts" in name else rates.message
    count(*one)
    with pytest.raises(RateLimited) as refused:
        count(*one)
    assert refused.value.retry_after_ms == 7000
    count(*other)
    clock.now += refused.value.retry_after_ms / 1000 + 1e-9
    count(*one)


def test_what_is_refused_is_not_counted() -> None:
    clock = Clock()
    rates = Rates(RateSettings(connection_messages_s=1.0, address_messages_s=0.2), clock)
    rates.message("1", None, "a")
    for _ in range(100):
        with pytest.raises(RateLimited):
            rates.message("1", None, "a")
    for _ in range(int(BURST_S) - 1):
        rates.message("1", None, None)


PROXIES = networks(["10.0.0.0/8, 192.168.1.1", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("1.2.3.4", [], "1.2.3.4"),
        ("1.2.3.4", ["9.9.9.9"], "1.2.3.4"),  # nobody may say that for itself
        ("10.1.2.3", ["9.9.9.9"], "9.9.9.9"),
        ("10.1.2.3", ["8.8.8.8, 9.9.9.9"], "9.9.9.9"),
        ("10.1.2.3", ["8.8.8.8, 9.9.9.9, 192.168.1.1"], "9.9.9.9"),
        ("10.1.2.3", ["8.8.8.8", "9.9.9.9"], "9.9.9.9"),
        ("10.1.2.3", ["10.0.0.9"], "10.0.0.9"),
        ("10.1.2.3", ["8.8.8.8, rubbish"], "10.1.2.3"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["9.9.9.9:1234"], "9.9.9.9"),
        ("::ffff:10.1.2.3", ['"[2001:db8:1:2:3::4]:99"'], "2001:db8:1:2::/64"),
        ("fd00::1", ["9.9.9.9"], "9.9.9.9"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["9.9.9.9"], None),
        ("", [], None),
    ],
)
def test_who_is_counted(peer: str | None, forwarded: list[str], found: str | None) -> None:
    assert address_of(peer, forwarded, PROXIES) == found


@given(st.text(), st.lists(st.text()))
def test_any_header_is_harmless(peer: str, forwarded: list[str]) -> None:
    address_of(peer, forwarded, PROXIES)
    address_of("10.0.0.1", forwarded, PROXIES)


def test_what_is_no_network() -> None:
    with pytest.raises(NoNetwork, match="proxy"):
        networks(["10.0.0.0/8,proxy"])
