"""Each marked check of commit.lua is needed: with it alone taken out, the suite is red."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.branches import WITHOUT

HERE = Path(__file__).parent
RED = {
    "epoch": "test_fenced_by_another_epoch",
    "number": "test_rewound_by_the_number",
    "consumed": "test_rewound_by_a_consumed_entry",
}
SERVERS = ["fakeredis", "valkey"]
"""On a cluster the scripts are the same."""


def commit_suite(check: str) -> subprocess.CompletedProcess[str]:
    quiet = ("-q", "-p", "no:cacheprovider", "-k", "not cluster")
    command = [sys.executable, "-m", "pytest", *quiet, str(HERE / "test_commit.py")]
    environment = os.environ | {WITHOUT: check}
    environment.pop("ORBIT_TEST_REDIS_URL", None)
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("check", sorted(RED))
def test_without_the_check_the_suite_is_red(check: str) -> None:
    result = commit_suite(check)
    assert result.returncode == 1, result.stdout + result.stderr
    for server in SERVERS:
        assert f"FAILED tests/contract/test_commit.py::{RED[check]}[{server}]" in result.stdout, result.stdout


def test_with_all_checks_it_is_green() -> None:
    result = commit_suite("")
    assert result.returncode == 0, result.stdout + result.stderr
