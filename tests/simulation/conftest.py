"""What holds for every run of the simulation."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEVER_RUN = (
    "ignore:coroutine .* was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
"""Of a process that is killed nothing runs any more: its tasks that hadn't begun are coroutines that nobody awaits."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for warning in NEVER_RUN:
                item.add_marker(pytest.mark.filterwarnings(warning))
