"""Pages in a real browser, as the docs say: Debian's Chromium, without a window."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.support.processes import Process, Stage, free_port

pytestmark = [pytest.mark.system, pytest.mark.browser]
ROOT = Path(__file__).parents[2]
IMGUR = ROOT / "examples" / "imgur"
OWN_PAGE = ROOT / "docs" / "web-frameworks.md"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium isn't installed"
    async with async_playwright() as playwright:
        # The page is our own, and a test's user may have no right to make a sandbox.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield await browser.new_page()
        await browser.close()


class Site:
    """Every process that the example's README starts."""

    def __init__(self, edge: Process, redis: str, origin: str) -> None:
        self.edge = edge
        self.redis = redis
        self.url = origin

    @classmethod
    async def open(cls, stage: Stage) -> Site:
        redis, port = (await stage.embedded()).url, free_port()
        origin = f"http://127.0.0.1:{port}"
        host = await stage.spawn("image-host", sys.executable, str(IMGUR / "image_host.py"), "--port", "0")
        images = (await host.says("image host ready")).split()[-1]
        worker = ("worker", str(IMGUR / "images.py"), "--redis", redis)
        await (await stage.orbit(*worker, env={"IMAGE_HOST": images})).ready()
        edge = await stage.edge(redis, "--origin", origin)
        about = ("--redis", redis, "--edge", edge.url, "--port", str(port))
        shown = await stage.spawn("page", sys.executable, str(IMGUR / "page.py"), *about)
        await shown.says("Running on")
        return cls(edge, redis, origin)


async def test_an_image_is_fetched_shown_and_finished_with_ok(
    stage: Stage, page: Page, measured: Callable[[str], None]
) -> None:
    """The edge is killed and comes back while the image is shown; OK still ends the transaction."""
    site = await Site.open(stage)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    async with asyncio.timeout(60):
        await page.goto(site.url)
        await page.get_by_role("button", name="Fetch").click()
        image = page.locator("#image img")
        await expect(image).to_be_visible()
        assert await image.evaluate("image => image.naturalWidth") > 0
        await site.edge.kill()
        await stage.edge(site.redis, "--port", str(urlsplit(site.edge.url).port), "--origin", site.url)
        ok = page.get_by_role("button", name="OK")
        await ok.click()
        await expect(page.get_by_role("status")).to_have_text("Done.")
        tx = await page.locator("#image").get_attribute("data-tx")
        picture = stage.folder / "image.png"
        await page.screenshot(path=picture)
    if wanted := os.environ.get("ORBIT_SCREENSHOTS"):
        shutil.copy(picture, Path(wanted) / "imgur.png")
    answer = await stage.http.get(f"{site.edge.url}/v1/transactions/{tx}/result")
    assert (answer.status_code, answer.json()) == (200, {"status": "finished", "result": "seen"})
    assert not faults
    measured(f"a screenshot of {picture.stat().st_size:,} bytes")


async def test_the_page_of_ones_own_that_the_docs_make(stage: Stage, page: Page) -> None:
    """Its files word by word; the edge is killed under it and started again by `orbit dev`."""
    files = re.findall(r"```\w+\n(?:# |<!-- )([\w./]+\.(?:py|html))[^\n]*\n(.*?)```", OWN_PAGE.read_text(), re.DOTALL)
    names = ["app.py", "countdown.py", "templates/ask.html", "templates/countdown.html"]
    assert sorted(name for name, _ in files) == names
    (stage.folder / "templates").mkdir()
    for name, text in files:
        (stage.folder / name).write_text(text)
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    dev = await stage.dev("countdown.py", "--origin", origin)
    redis = re.search(r"redis=(\S+)", dev.ready_line)
    assert redis
    about = {"ORBIT_REDIS": redis[1], "EDGE": dev.url}
    app = await stage.spawn("flask", sys.executable, "-m", "flask", "run", "--port", str(port), env=about)
    await app.says("Running on")
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    async with asyncio.timeout(60):
        await page.goto(origin)
        await page.get_by_role("button", name="Count down").click()
        number = page.get_by_role("status")
        await expect(number).to_have_text(re.compile(r"\d+"))
        killed = re.search(r"edge .* \(pid (\d+)\)", "\n".join(dev.lines))
        assert killed
        os.kill(int(killed[1]), signal.SIGKILL)
        await dev.says("it starts again in")
        left = int(await number.inner_text())
        await expect(number).to_have_text(str(left - 3), timeout=30_000)
        await page.get_by_role("button", name="Hold").click()
        await expect(number).to_have_text(re.compile(r"finished: held at \d+"))
    assert not faults
