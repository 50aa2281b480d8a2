"""The session that the docs show frame by frame is what edges really say."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from orbit.verify.link import Link
from tests.support.processes import Stage
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
PAGE = Path(__file__).parents[2] / "docs" / "from-another-language.md"
ANSWERS = ("attached", "update", "receipt", "end", "pong", "error", "rejected")


def sessions() -> list[list[tuple[str, dict[str, Any]]]]:
    """The page's sessions: who says what."""
    blocks = re.findall(r"```session\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [[(line[:2], json.loads(line[3:])) for line in block.splitlines()] for block in blocks]


async def test_the_session_of_the_page(stage: Stage) -> None:
    """Each part on an edge of its own; `TX` and the epoch are this run's."""
    redis = (await stage.embedded()).url
    edges = [await stage.edge(redis) for _ in range(2)]
    await stage.worker(STATES / "echo.py", redis)
    tx = await stage.start(edges[0].url, "Echo", limit=2, until=1)
    cursors = {"0": "0"}
    parts = sessions()
    assert len(parts) == 2
    for edge, part in zip(edges, parts, strict=True):
        while part is parts[1] and (await stage.show(edge.url, tx))["status"] != "idle":
            pass
        link = await Link.open(edge.url)
        for who, lines in itertools.groupby(part, key=lambda line: line[0]):
            shown = [{name: tx if value == "TX" else value for name, value in message.items()} for _, message in lines]
            if who == "->":
                await link.send(*(message | {"after": cursors[message["after"]]} if "after" in message else message
                                  for message in shown))
                continue
            got = [await link.expect(*ANSWERS) for _ in shown]
            for has, expected in zip(receipts_first(got), receipts_first(shown), strict=True):
                compare(has, expected, cursors, any_status=part is parts[0])
        await link.close()


def receipts_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A receipt has no order towards the updates that its message causes."""
    return sorted(messages, key=lambda message: message["type"] != "receipt")


def compare(got: dict[str, Any], shown: dict[str, Any], cursors: dict[str, str], *, any_status: bool) -> None:
    """`any_status`: it may not have begun to run, or have nothing left to do by now."""
    got = got.copy()
    if any_status and got["type"] == "attached":
        got["status"] = shown["status"]
    if "cursor" in shown:
        cursors[shown["cursor"]] = got["cursor"]
        assert got["cursor"].partition("-")[0] == shown["cursor"].partition("-")[0]
        got["cursor"] = shown["cursor"]
    assert got == shown
