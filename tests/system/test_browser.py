"""The image example as its README says, in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.support.processes import Process, Stage, free_port

pytestmark = [pytest.mark.system, pytest.mark.browser]
IMGUR = Path(__file__).parents[2] / "examples" / "imgur"


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
