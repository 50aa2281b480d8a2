"""A server process's signals and logs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import Stage
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.system

BLOCKING = """
import time
from orbit import State


class Blocking(State):
    async def run(self) -> None:
        print("the loop is blocked", flush=True)
        time.sleep(600)
"""
IMPORTED_SLOWLY = """
import os

print("imported now", flush=True)
open(os.environ["GATE"]).read()
from orbit import State


class Late(State):
    async def run(self) -> None: ...
"""
LOGGING = """
import logging
import structlog
from orbit.cli.logs import set_up

set_up("info", "FORM")
structlog.get_logger("one").info("hello", n=1)
structlog.get_logger("one").debug("not this")
logging.getLogger("two").warning("of %s", "old")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("one").exception("it broke")
"""


async def test_a_second_signal_exits_at_once_though_the_loop_is_blocked(stage: Stage, tmp_path: Path) -> None:
    app = tmp_path / "blocking.py"
    app.write_text(BLOCKING)
    server = await stage.embedded()
    worker, edge = await asyncio.gather(stage.worker(app, server.url), stage.edge(server.url))
    await stage.start(edge.url, "Blocking")
    await worker.says("the loop is blocked")
    worker.signal(signal.SIGTERM)
    await worker.says("draining")
    worker.signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        assert await worker.wait() == 128 + signal.SIGINT


async def test_a_signal_while_the_code_is_imported_is_heeded_after_that(stage: Stage, tmp_path: Path) -> None:
    app, gate = tmp_path / "late.py", tmp_path / "gate"
    app.write_text(IMPORTED_SLOWLY)
    os.mkfifo(gate)
    server = await stage.embedded()
    worker = await stage.orbit("worker", str(app), "--redis", server.url, env={"GATE": str(gate)})
    await worker.says("imported now")
    worker.signal(signal.SIGTERM)
    await worker.says("draining")
    gate.write_text("go")
    async with asyncio.timeout(PATIENCE_S):
        assert await worker.wait() == 0, worker.tail()


async def test_one_signal_drains(stage: Stage) -> None:
    server = await stage.embedded()
    edge = await stage.edge(server.url)
    async with asyncio.timeout(PATIENCE_S):
        assert await edge.terminate() == 0, edge.tail()


async def test_logs_are_json_where_nobody_looks(stage: Stage) -> None:
    process = await stage.spawn("logs", sys.executable, "-c", LOGGING.replace("FORM", "auto"))
    assert await process.wait() == 0
    lines = [json.loads(line) for line in process.said]
    assert [(one["event"], one["level"], one["logger"]) for one in lines] == [
        ("hello", "info", "one"),
        ("of old", "warning", "two"),
        ("it broke", "error", "one"),
    ]
    assert lines[0]["n"] == 1
    assert "ZeroDivisionError" in lines[2]["exception"]


async def test_logs_are_plain_text_where_that_is_asked(stage: Stage) -> None:
    process = await stage.spawn("logs", sys.executable, "-c", LOGGING.replace("FORM", "console"))
    assert await process.wait() == 0
    assert "hello" in process.said[0]
    assert "\x1b" not in process.tail()
