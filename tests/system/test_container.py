"""The container file and the compose file of `deploy/`: linted, and their commands run without a container."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.balancers import DEPLOY
from tests.support.processes import Process, Stage, free_port

pytestmark = pytest.mark.system
CONTAINER = DEPLOY / "container"
COMPOSE: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


async def test_the_container_file_is_sound(stage: Stage) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    asked = await stage.spawn("hadolint", str(hadolint), str(CONTAINER / "Containerfile"))
    assert (await asked.wait(), asked.tail().strip()) == (0, "")


def health_check() -> list[str]:
    """The command of the container file."""
    text = (CONTAINER / "Containerfile").read_text()
    match = re.search(r"HEALTHCHECK[^\[]*(\[.*\])", text)
    assert match
    command: list[str] = json.loads(match[1])
    return command


async def test_the_fleet_of_the_compose_file_serves(stage: Stage) -> None:
    """Two workers and two edges by the compose file's own commands; each is healthy, and a job runs on them."""
    redis = (await stage.embedded()).url
    assert COMPOSE["x-orbit"]["build"]["dockerfile"] == "deploy/container/Containerfile"
    edges: list[Process] = []
    ports: dict[str, int] = {}
    for name in ("worker-1", "worker-2", "edge-1", "edge-2"):
        service = SERVICES[name]
        ports[name] = free_port()
        command = [here(word, service, redis, ports[name]) for word in service["command"]]
        process = await stage.orbit(*command)
        await process.ready()
        edges += [process] if name.startswith("edge") else []
    for port in ports.values():
        program, *words = health_check()
        assert program == "python"
        asked = await stage.spawn("health", sys.executable, *(word.replace(":8000/", f":{port}/") for word in words))
        assert await asked.wait() == 0, asked.tail()
    tx = await stage.start(f"http://127.0.0.1:{ports['edge-1']}", "Counter", total=1)
    answer = await stage.http.get(
        f"http://127.0.0.1:{ports['edge-2']}/v1/transactions/{tx}/result", params={"wait_s": 60}, timeout=90
    )
    assert answer.json() == {"status": "finished", "result": 1}
    for edge in edges:
        assert await edge.terminate() == 0


def here(word: str, service: dict[str, Any], redis: str, port: int) -> str:
    """A word of a command as it is said outside of a container."""
    for volume in service.get("volumes", ()):
        source, target, _ = volume.split(":")
        if word.startswith(f"{target}/"):
            path = (CONTAINER / source).resolve() / word.removeprefix(f"{target}/")
            assert path.is_file(), path
            return str(path)
    return {"redis://valkey:6379/0": redis, "8000": str(port), "0.0.0.0": "127.0.0.1"}.get(word, word)


def test_what_the_balancer_is_given_is_what_its_configuration_asks_for() -> None:
    nginx = SERVICES["nginx"]
    asked = set(re.findall(r"\$\{(ORBIT_\w+)\}", (DEPLOY / "nginx" / "orbit.conf").read_text()))
    assert set(nginx["environment"]) == asked
    for number in ("1", "2"):
        assert nginx["environment"][f"ORBIT_EDGE_{number}"] == f"edge-{number}:8000"
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (CONTAINER / source).exists(), volume


def test_the_drain_fits_into_the_time_to_stop() -> None:
    seconds = int(COMPOSE["x-orbit"]["stop_grace_period"].removesuffix("s"))
    assert seconds > 30, "the default of --drain-s"
