"""An edge mounted in an application that a real uvicorn serves: how that stops, and what it logs."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from orbit.verify.link import Link
from tests.support.processes import Process, Stage
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
HOST = """
from starlette.applications import Starlette
from starlette.routing import Mount

import orbit.asgi

edge = orbit.asgi.edge({redis!r})
app = Starlette(routes=[Mount("/live", edge)], lifespan=edge.lifespan)
"""


async def host_and_room(stage: Stage) -> tuple[Process, str, str]:
    """A host, the URL of its edge, and a transaction that goes on until it is told to end."""
    redis = (await stage.embedded()).url
    await stage.worker(STATES / "cli_states.py", redis)
    (stage.folder / "host.py").write_text(HOST.format(redis=redis))
    command = ("-m", "uvicorn", "--app-dir", str(stage.folder), "--port", "0", "host:app")
    host = await stage.spawn("host", sys.executable, *command)
    found = re.search(r"http://\S+", await host.says("Uvicorn running on"))
    assert found
    edge = found[0] + "/live"
    return host, edge, await stage.start(edge, "Room")


async def told_to_go(link: Link) -> None:
    """Both the edge and uvicorn look for the signal ten times a second; where uvicorn sees it first, it closes at once.

    That it closed with 1012, as a goaway would announce, is judged by who waits for the close.
    """
    with contextlib.suppress(ConnectionClosed):
        assert (await link.expect("goaway"))["reconnect_after_ms"] == 0


async def test_nothing_that_is_open_keeps_the_host_from_stopping(stage: Stage) -> None:
    host, edge, tx = await host_and_room(stage)
    one = f"{edge}/v1/transactions/{tx}"
    plain_url, events_url = "ws" + one.removeprefix("http") + "/ws", f"{one}/events"
    other = await stage.start(edge, "Room")
    waiting = asyncio.create_task(stage.http.get(f"{edge}/v1/transactions/{other}/result?wait_s=300"))
    link = await Link.open(edge)
    async with connect(plain_url) as plain, stage.http.stream("GET", events_url) as stream:
        lines = stream.aiter_lines()
        while await anext(lines) != "event: attached":
            pass
        while await stage.metric(edge, "orbit_edge_watched") < 2:
            pass
        host.signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await told_to_go(link)
            assert "event: end" not in [line async for line in lines]
            await plain.wait_closed()
            await link.ws.wait_closed()
            assert (await waiting).status_code == 202
            await host.wait()
    assert (plain.close_code, link.ws.close_code) == (1012, 1012)
    assert "Traceback" not in host.tail(200)


async def test_the_host_s_log_holds_no_token(stage: Stage) -> None:
    host, edge, tx = await host_and_room(stage)
    one = f"{edge}/v1/transactions/{tx}"
    async with stage.http.stream("GET", f"{one}/events?token=my-secret&after=0") as stream:
        assert stream.status_code == 200
    async with connect("ws" + one.removeprefix("http") + "/ws?after=0&token=my-secret"):
        pass
    await host.says("/events?token=...&after=0 HTTP/1.1")
    await host.says("/ws?after=0&token=...")
    assert "my-secret" not in host.tail(200)
