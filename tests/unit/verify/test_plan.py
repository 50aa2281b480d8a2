"""Plans of faults: drawn from a seed, the same again, and nothing that wasn't asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit.verify.plan import FAULTS, NotAPlan, chosen, offered, plan, seconds

EVERYTHING = offered(links=True, server=True)


@given(st.lists(st.sampled_from(list(FAULTS)), min_size=1, unique=True), st.floats(0.5, 300), st.integers(0, 10**9))
def test_a_plan_has_each_fault_within_its_time(faults: list[str], for_s: float, seed: int) -> None:
    made = plan(faults, for_s, seed)
    assert made == plan(faults, for_s, seed)
    assert {one.fault for one in made} == set(faults)
    assert [one.at_s for one in made] == sorted(one.at_s for one in made)
    for one in made:
        assert 0 <= one.at_s <= one.at_s + one.lasting_s <= for_s + 1e-6
        assert one.lasting_s <= FAULTS[one.fault].lasts_s[1]


def test_another_seed_is_another_plan() -> None:
    assert plan(EVERYTHING, 60, 1) != plan(EVERYTHING, 60, 2)


def test_one_fault_comes_as_it_would_alone_as_long_as_there_are_few() -> None:
    """What is added doesn't change when the others happen, so a fault can be taken out of a plan that failed."""
    both = plan(("worker-kill", "cut"), 60, 7)
    assert tuple(one for one in both if one.fault == "cut") == plan(("cut",), 60, 7)


def test_many_kinds_come_more_seldom_each() -> None:
    alone = len(plan(("worker-kill",), 300, 1))
    among = sum(one.fault == "worker-kill" for one in plan(EVERYTHING, 300, 1))
    assert among < alone / 2


def test_what_is_offered_depends_on_what_is_ours() -> None:
    named, encrypted = offered(links=True, server=False), offered(links=False, server=False)
    assert {"failover", "redis-restart", "redis-full", "redis-pause"} == set(EVERYTHING) - set(named)
    assert {"partition", "latency", "cut", "pubsub-drop"} == set(named) - set(encrypted)


def test_faults_are_chosen_by_name() -> None:
    assert chosen(None, EVERYTHING) == chosen("all", EVERYTHING) == EVERYTHING
    assert chosen(" cut, worker-kill ", EVERYTHING) == ("worker-kill", "cut")
    with pytest.raises(NotAPlan, match="no fault 'meteor'; there are worker-kill"):
        chosen("meteor", EVERYTHING)
    with pytest.raises(NotAPlan, match="failover can't be done to this deployment"):
        chosen("failover", offered(links=True, server=False))


@pytest.mark.parametrize(("text", "wanted"), [("90", 90), ("60s", 60), ("1.5m", 90), ("500ms", 0.5), (" 1h ", 3600)])
def test_times(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "-3", "1d", "abc", "1e3", "nan", "99h", "\uff15s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(NotAPlan, match="a time is a number of seconds"):
        seconds(text)
