"""The life of a connection that another server holds."""

from __future__ import annotations

import asyncio

import pytest

from orbit.edge.config import EdgeConfig
from orbit.edge.outgoing import Outgoing
from orbit.protocol.codecs import JSON


class Line(Outgoing):
    def __init__(self) -> None:
        super().__init__(EdgeConfig("redis://nowhere"), JSON)
        self.began = asyncio.Event()
        self.over = False

    async def wait(self) -> None:
        try:
            self.began.set()
            await asyncio.Event().wait()
        finally:
            self.over = True


async def test_a_connection_that_is_cut_ends_its_life_quietly() -> None:
    line = Line()
    living = asyncio.create_task(line.live(line.wait(), "line"))
    await line.began.wait()
    assert line.task is not None
    line.task.cancel()
    await living
    assert line.over


async def test_a_server_that_cancels_the_application_is_told_so_once_the_connection_is_over() -> None:
    line = Line()
    living = asyncio.create_task(line.live(line.wait(), "line"))
    await line.began.wait()
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
    assert line.over
