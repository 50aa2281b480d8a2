"""`orbit verify`, as a deployer runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S
from tests.system.test_cli_dev import children_of, gone

pytestmark = pytest.mark.system

PLANTED = Path(__file__).parent / "planted"


async def ended(process: Process) -> int:
    async with asyncio.timeout(SCENE_S):
        return await process.wait()


async def test_a_deployment_in_a_shared_redis_is_broken_judged_and_removed(stage: Stage, seed: int) -> None:
    """Faults of each kind that a named Redis allows; what others keep in it stays, and nothing else does."""
    server = await stage.embedded()
    await server.command("SET", "others:key", "1")
    verdict_file = stage.folder / "verdict.json"
    process = await stage.orbit(
        "verify", "--redis", server.url, "--for", "5s", "--faults", "worker-kill,edge-kill,cut,pubsub-drop",
        "--seed", str(seed), "--json", str(verdict_file),
    )  # fmt: skip
    assert await ended(process) == 0, process.tail(200)
    assert any(line.startswith(f"seed {seed}: no violation") for line in process.out), process.tail(200)
    verdict = json.loads(verdict_file.read_text())
    assert (verdict["ok"], verdict["seed"], verdict["violations"]) == (True, seed, [])
    faults = {row["fault"]: row for row in verdict["faults"]}
    assert list(faults) == ["worker-kill", "edge-kill", "cut", "pubsub-drop"]
    assert all(row["injected"] + row["skipped"] >= 1 for row in faults.values())
    assert faults["worker-kill"]["recovery_s"]["max"] >= faults["worker-kill"]["recovery_s"]["p50"] > 0
    assert verdict["totals"]["updates"] > 100
    assert verdict["totals"]["messages"] > 10
    assert await server.command("KEYS", "*") == [b"others:key"]


async def test_a_planted_bug_is_found_and_shown(stage: Stage, seed: int) -> None:
    """An edge drops an update now and then. It shows by count, also where a failover may lose what it likes."""
    process = await stage.orbit(
        "verify", "--for", "3s", "--faults", "failover", "--clients", "6", "--seed", str(seed), "--json", "-",
        env={"PYTHONPATH": str(PLANTED)},
    )  # fmt: skip
    assert await ended(process) == 1, process.tail(200)
    verdict = json.loads("\n".join(process.out))
    assert not verdict["ok"]
    assert verdict["faults"][0]["injected"] == 1
    shown = next(one for one in verdict["violations"] if "a gap by the State's own count" in one["what"])
    assert shown["client"].startswith("client ")
    assert is_minimal(shown["trace"], shown), shown
    assert any(line.startswith("VIOLATION client") for line in process.said), process.tail(200)


def is_minimal(trace: list[dict[str, Any]], shown: dict[str, Any]) -> bool:
    """A handful of events of that one transaction, from what its stream rests on to the one that is wrong."""
    own = all(event["message"].get("tx", shown["transaction"]) == shown["transaction"] for event in trace)
    return own and 1 < len(trace) <= 6 and trace[-1]["at_s"] == shown["at_s"]


async def test_interrupted_it_leaves_nothing_behind(stage: Stage) -> None:
    process = await stage.orbit("verify", "--for", "60s", "--faults", "worker-pause,redis-pause")
    await process.says("attached")
    below = list(children_of(process.pid))
    process.signal(signal.SIGINT)
    assert await ended(process) == 130, process.tail()
    await gone(below)
