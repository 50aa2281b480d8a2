"""What an edge answers is what its own description says, whatever it is asked."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orbit.edge.http.openapi import OPERATIONS
from tests.support.processes import Stage
from tests.system.conftest import STATES

pytestmark = pytest.mark.system

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = "25"
NOT_ASKED = "(/events|/ws)$"
"""Streams that have no end, and handshakes: their own tests ask them."""


def test_every_route_is_described() -> None:
    app = (Path(__file__).parents[2] / "orbit" / "edge" / "http" / "app.py").read_text()
    named = re.findall(r'resource\(edge, (?:f?"([^"]+)"|(\w+)), (.*)\)', app)
    known = {"PATH": "/v1/ws", "PLAIN": "/v1/transactions/{id}/ws"}
    routes = {
        (path or known[constant], method)
        for path, constant, methods in named
        for method in re.findall(r"(GET|POST)=", methods)
    }
    assert routes == set(OPERATIONS)


async def test_no_undocumented_answer(
    stage: Stage, tmp_path: Path, seed: int, measured: Callable[[str], None]
) -> None:
    """Thousands of requests, right ones and wrong ones, some of them about transactions that there are."""
    redis = (await stage.embedded()).url
    edge = await stage.edge(redis)
    await stage.worker(STATES / "echo.py", redis)
    ids = [await stage.start(edge.url, "Echo", limit=2, until=1) for _ in range(3)]
    number = random.Random(seed).randrange(2**31)
    cases: list[str] = []
    settings = tmp_path / "schemathesis.toml"
    for given in ({}, {"path.id": ids}):
        given = {"query.wait_s": 0, **given}  # it would wait as long as it is told to
        lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in given.items()]
        settings.write_text("\n".join(["[parameters]", *lines]))
        asked = await stage.spawn(
            "schemathesis", sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings),
            "run", f"{edge.url}/v1/openapi.json",
            "--checks", CHECKS, "--seed", str(number), "--max-examples", EXAMPLES, "--no-color",
            "--exclude-path-regex", NOT_ASKED, "--phases", "coverage,fuzzing,stateful",
            "--generation-database", "none",
        )  # fmt: skip
        code = await asked.wait()
        said = "\n".join(asked.lines)
        assert code == 0, said[-6000:]
        cases += re.findall(r"(\d+) generated", said)
    total = sum(map(int, cases))
    assert total > 100, cases
    measured(f"{total} requests with seed {number}: no undocumented answer, no 500")
