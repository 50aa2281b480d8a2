"""The examples for web frameworks, each through its framework's own test client, on a real deployment."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import html
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from orbit import SyncBroker
from orbit.client import End
from tests.support.processes import Stage
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples"
IMGUR = EXAMPLES / "imgur"
DRIVER = Path(__file__).parent / "frameworks.mjs"


@contextlib.contextmanager
def loaded(path: Path) -> Iterator[ModuleType]:
    """A module from its file, forgotten afterwards."""
    name = f"example_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]


def attribute(page: str, name: str) -> str:
    match = re.search(rf'{name}="([^"]*)"', page)
    assert match, page
    return html.unescape(match[1])


# ---- examples/imgur


async def test_the_image_page_goes_on_over_a_killed_edge(stage: Stage) -> None:
    node = shutil.which("node")
    if node is None and not os.environ.get("CI"):
        pytest.skip("needs Node 20 or newer")
    assert node, "node isn't on the PATH"
    redis = (await stage.embedded()).url
    host = await stage.spawn("image-host", sys.executable, str(IMGUR / "image_host.py"), "--port", "0")
    images = (await host.says("image host ready")).split()[-1]
    edge = await stage.edge(redis)
    worker = ("worker", str(IMGUR / "images.py"), "--redis", redis)
    await (await stage.orbit(*worker, env={"IMAGE_HOST": images})).ready()
    url = edge.url

    def visit() -> tuple[str, str]:
        with loaded(IMGUR / "page.py") as page, SyncBroker(redis) as broker:
            client = page.create_app(broker, url).test_client()
            assert "<form" in client.get("/").text
            refused = client.post("/images", data={"name": "<script>alert(1)</script>.png"})
            assert (refused.status_code, "<script>" in refused.text) == (400, False)
            assert client.get(f"/images/{'nobody' * 4}").status_code == 404
            started = client.post("/images", data={"name": "orbit.png"})
            assert started.status_code == 303
            shown = client.get(started.headers["Location"])
            assert shown.headers["Content-Security-Policy"].endswith(url.replace("http", "ws"))
            for script in ("show.js", "follower.js"):
                with client.get(f"/static/{script}") as answer:
                    assert answer.status_code == 200
            return attribute(shown.text, "data-tx"), attribute(shown.text, "data-socket")

    tx, socket = await asyncio.to_thread(visit)
    module = stage.folder / "follower.mjs"
    shutil.copy(IMGUR / "static" / "follower.js", module)
    browser = await stage.spawn("node", node, "--experimental-websocket", str(DRIVER), str(module), socket, tx)
    await browser.says("Here is orbit.png")
    await edge.kill()
    await stage.edge(redis, "--port", str(urlsplit(url).port))
    async with asyncio.timeout(PATIENCE_S):
        assert await browser.wait() == 0, browser.tail()
    events = [json.loads(line) for line in browser.out]
    with loaded(IMGUR / "image_host.py") as drawn:
        digest = hashlib.sha256(drawn.picture("orbit")).hexdigest()
    assert [event for event in events if "says" in event] == [
        {"says": "Fetching orbit.png ..."},
        {"says": "Here is orbit.png.", "kind": "image/png", "sha256": digest},
    ]
    assert {"rejected": 'say "OK"'} in events
    assert {"stored": 1} in events
    assert events[-1] == {"end": "finished", "result": "seen"}


async def test_an_image_that_is_not_there_is_told_to_the_page(stage: Stage) -> None:
    redis = (await stage.embedded()).url
    host = await stage.spawn("image-host", sys.executable, str(IMGUR / "image_host.py"), "--port", "0")
    images = (await host.says("image host ready")).split()[-1]
    worker = ("worker", str(IMGUR / "images.py"), "--redis", redis)
    await (await stage.orbit(*worker, env={"IMAGE_HOST": images})).ready()

    def watch() -> list[Any]:
        with SyncBroker(redis) as broker:
            return list(broker.events(broker.start("ImageDownload", {"name": "missing.png"})))

    end = (await asyncio.to_thread(watch))[-1]
    assert (end.status, end.error["message"]) == ("failed", "the image host has no such image")


# ---- one file each, over examples/counter.py


async def counting(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that counts: a server, a worker, an edge."""
    redis = (await stage.embedded()).url
    monkeypatch.setenv("ORBIT_REDIS", redis)
    await stage.edge(redis)
    await stage.worker(EXAMPLES / "counter.py", redis)


def ended(broker: SyncBroker, place: str) -> str:
    """How the transaction of a page ends, once it does."""
    return next(event.status for event in broker.events(place.split("/")[-1]) if isinstance(event, End))


async def test_flask(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await counting(stage, monkeypatch)

    def visit() -> None:
        with loaded(EXAMPLES / "flask_app.py") as module, SyncBroker(os.environ["ORBIT_REDIS"]) as broker:
            client = module.create_app(broker).test_client()
            assert "<form" in client.get("/").text
            place = client.post("/counts", data={"total": "2"}).headers["Location"]
            assert broker.result(place.split("/")[-1], wait_s=PATIENCE_S) == 2
            page = client.get(place).text
            assert ("<h1>finished</h1>" in page, page.count("<li>"), "Result: 2" in page) == (True, 2, True)
            long = client.post("/counts", data={"total": "1000"}).headers["Location"]
            assert "Stop" in client.get(long).text
            assert client.post(f"{long}/stop").status_code == 303
            assert ended(broker, long) == "cancelled"
            assert client.get(long).text.count("Stop") == 0
            assert client.post(f"{long}/stop").status_code == 400
            assert client.get("/counts/<b>").status_code == 400
            assert client.get(f"/counts/{'nobody' * 4}").status_code == 404

    await asyncio.to_thread(visit)


async def test_django(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await counting(stage, monkeypatch)

    def visit() -> None:
        with loaded(EXAMPLES / "django_app.py") as module:
            from django import setup
            from django.test import Client

            setup()
            client, broker = Client(), module.broker
            assert "<form" in client.get("/").content.decode()
            place = client.post("/counts", {"total": "2"}).headers["Location"]
            assert broker.result(place.split("/")[-1], wait_s=PATIENCE_S) == 2
            page = client.get(place).content.decode()
            assert ("<h1>finished</h1>" in page, page.count("<li>"), "Result: 2" in page) == (True, 2, True)
            long = client.post("/counts", {"total": "1000"}).headers["Location"]
            assert "Stop" in client.get(long).content.decode()
            assert client.post(f"{long}/stop").status_code == 302
            assert ended(broker, long) == "cancelled"
            assert client.post(f"{long}/stop").status_code == 400
            assert client.post("/counts", {"total": "<b>"}).status_code == 400
            assert client.get(f"/counts/{'nobody' * 4}").status_code == 404
            assert Client(enforce_csrf_checks=True).post("/counts", {"total": "2"}).status_code == 403
            broker.close()

    await asyncio.to_thread(visit)


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # its client works with both
async def test_fastapi(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await counting(stage, monkeypatch)

    def visit() -> None:
        from fastapi.testclient import TestClient

        with loaded(EXAMPLES / "fastapi_app.py") as module, TestClient(module.app) as client:
            assert "<button>" in client.get("/").text
            tx = client.post("/counts", json={"total": 3}).json()["id"]
            lines = [json.loads(line) for line in client.get(f"/counts/{tx}/updates").text.splitlines()]
            assert [line["data"] for line in lines] == [1, 2, 3]
            rest = client.get(f"/counts/{tx}/updates", params={"after": lines[0]["cursor"]}).text.splitlines()
            assert [json.loads(line) for line in rest] == lines[1:]
            assert client.get(f"/counts/{tx}").json() == {"status": "finished", "result": 3}
            assert client.post(f"/counts/{tx}/stop").status_code == 409
            long = client.post("/counts", json={"total": 1000}).json()["id"]
            assert client.post(f"/counts/{long}/stop").status_code == 202
            assert client.get(f"/counts/{'nobody' * 4}/updates").status_code == 404
            assert client.post("/counts", json={"total": "many"}).status_code == 422

    await asyncio.to_thread(visit)


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # its client works with both
async def test_starlette(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await counting(stage, monkeypatch)

    def visit() -> None:
        from starlette.testclient import TestClient
        from starlette.websockets import WebSocketDisconnect

        def frames(path: str) -> Iterator[Any]:
            with client.websocket_connect(path) as socket, contextlib.suppress(WebSocketDisconnect):
                while True:
                    yield socket.receive_json()

        with loaded(EXAMPLES / "starlette_app.py") as module, TestClient(module.app) as client:
            assert "<button>" in client.get("/").text
            tx = client.post("/counts", json={"total": 3}).json()["id"]
            seen = list(frames(f"/counts/{tx}"))
            assert [frame["data"] for frame in seen] == [1, 2, 3]
            assert list(frames(f"/counts/{tx}?after={seen[0]['cursor']}")) == seen[1:]
            assert list(frames(f"/counts/{'nobody' * 4}")) == []
            assert client.post("/counts", json={"total": "many"}).status_code == 400

    await asyncio.to_thread(visit)
