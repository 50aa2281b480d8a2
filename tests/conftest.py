"""What all suites share: one seed for a run, and numbers that are worth showing when it is over."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# Whatever the machine: an example that takes long is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_SEED = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEED] = int(os.environ.setdefault("ORBIT_SEED", str(random.SystemRandom().randrange(10**9))))


def pytest_report_header(config: pytest.Config) -> str:
    return f"ORBIT_SEED={config.stash[_SEED]} (set it to run the chaos again as it was)"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run; the same for the same ORBIT_SEED."""
    return request.config.stash[_SEED]


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Show one line at the end of the run, whether the test passed or not."""
    return lambda line: record_property("measured", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = (
        report
        for key in ("passed", "failed")
        for report in terminalreporter.stats.get(key, ())
        if getattr(report, "when", None) == "call"
    )
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in reports
        for name, value in report.user_properties
        if name == "measured"
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)
