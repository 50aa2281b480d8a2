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
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.support.processes import Process, Stage, free_port
from tests.support.waiting import SCENE_S

pytestmark = [pytest.mark.system, pytest.mark.browser]
ROOT = Path(__file__).parents[2]
IMGUR = ROOT / "examples" / "imgur"
OWN_PAGE = (ROOT / "docs" / "web-frameworks.md").read_text()
SEVERAL = """
<h1 role="status"></h1>
<script>
const edges = EDGES;
let cursor = "0", turn = 0;
function watch(edge, after) {
  const source = new EventSource(`${edge}/v1/transactions/TX/events?after=${encodeURIComponent(after)}`);
  source.addEventListener("update", ({ data, lastEventId }) => {
    cursor = lastEventId;
    document.querySelector("h1").textContent = JSON.parse(data).data.left;
  });
  SHOWN
}
watch(edges[0], cursor);
</script>
"""


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
    async with asyncio.timeout(SCENE_S):
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


class OwnPage:
    """The page of one's own that the docs make, its files word by word, and what the docs start."""

    def __init__(self, dev: Process, url: str) -> None:
        self.dev = dev
        self.url = url

    @classmethod
    async def open(cls, stage: Stage, *options: str) -> OwnPage:
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        dev = await stage.dev("countdown.py", "--origin", origin, *options)
        redis = re.search(r"redis=(\S+)", dev.ready_line)
        assert redis
        about = {"ORBIT_REDIS": redis[1], "EDGE": dev.url}
        app = await stage.spawn("flask", sys.executable, "-m", "flask", "run", "--port", str(port), env=about)
        await app.says("Running on")
        return cls(dev, origin)


def write_own_page(folder: Path) -> None:
    files = re.findall(r"```\w+\n(?:# |<!-- )([\w./]+\.(?:py|html))[^\n]*\n(.*?)```", OWN_PAGE, re.DOTALL)
    names = ["app.py", "countdown.py", "templates/ask.html", "templates/countdown.html"]
    assert sorted(name for name, _ in files) == names
    (folder / "templates").mkdir()
    for name, text in files:
        (folder / name).write_text(text)


def write_own_page_with_tokens(folder: Path, ttl_s: int) -> None:
    """The same with what the docs change in it for tokens; these are valid for `ttl_s`."""
    write_own_page(folder)
    [more] = re.findall(r"```python\n# at the end of app\.py\n(.*?)```", OWN_PAGE, re.DOTALL)
    [changes] = re.findall(r"```js\n(.*?)```", OWN_PAGE, re.DOTALL)
    assert "TTL_S = 60\n" in more
    with (folder / "app.py").open("a") as file:
        file.write(more.replace("TTL_S = 60", f"TTL_S = {ttl_s}"))
    page = folder / "templates" / "countdown.html"
    text = page.read_text()
    function, watch, headers = changes.split("\n\n")
    text, begun = re.subn(r"^function watch\(\) \{\n.*\n", lambda _: f"{function}\n{watch}\n", text, flags=re.MULTILINE)
    text, asked = re.subn(r"^  const headers = .*\n", lambda _: headers, text, flags=re.MULTILINE)
    assert (begun, asked) == (1, 1)
    page.write_text(text)


SHOWN = """
window.shown = [];
new MutationObserver(() => {
  const now = document.querySelector("h1")?.textContent;
  if (now && now !== shown.at(-1)) shown.push(now);
}).observe(document, {subtree: true, childList: true, characterData: true});
"""
"""Remembers every text that the page's heading had: numbers that come together stand there for a moment only."""


async def left_in(number: Locator) -> int:
    await expect(number).to_have_text(re.compile(r"^\d+$"))
    return int(await number.inner_text())


async def test_the_page_of_ones_own_that_the_docs_make(stage: Stage, page: Page) -> None:
    """The edge is killed under it and started again by `orbit dev`; no number is missed."""
    write_own_page(stage.folder)
    await page.add_init_script(SHOWN)
    own = await OwnPage.open(stage)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    async with asyncio.timeout(SCENE_S):
        await page.goto(own.url)
        await page.get_by_role("button", name="Count down").click()
        number, alert = page.get_by_role("status"), page.get_by_role("alert")
        say = page.get_by_role("button", name="Say")
        await left_in(number)
        await page.get_by_role("textbox").fill("wait")
        await say.click()
        await expect(alert).to_have_text('the only word is "hold"')
        killed = re.search(r"edge .* \(pid (\d+)\)", "\n".join(own.dev.lines))
        assert killed
        os.kill(int(killed[1]), signal.SIGKILL)
        await own.dev.says("it starts again in")
        left = await left_in(number)
        await page.wait_for_function("(n) => Number(document.querySelector('h1').textContent) <= n", arg=left - 3)
        await page.get_by_role("textbox").fill("hold")
        await say.click()
        await expect(number).to_have_text(re.compile(r"finished: held at \d+"))
        await expect(alert).to_have_text("")
        shown = [int(text) for text in await page.evaluate("shown") if text.isdigit()]
    assert shown == list(range(shown[0], shown[-1] - 1, -1))
    assert not faults


async def test_the_page_of_ones_own_says_what_is_final(stage: Stage, page: Page) -> None:
    write_own_page(stage.folder)
    own = await OwnPage.open(stage)
    async with asyncio.timeout(SCENE_S):
        await page.goto(f"{own.url}/countdowns/0123456789abcdef")
        await expect(page.get_by_role("status")).to_have_text("no such transaction", timeout=20_000)


async def test_the_page_of_ones_own_with_tokens(stage: Stage, page: Page) -> None:
    """Its tokens are valid for 5 s: the count goes on over several of them."""
    write_own_page_with_tokens(stage.folder, ttl_s=5)
    keys = stage.folder / "keys.json"
    made = await stage.orbit("keys")
    await made.wait()
    keys.write_text("\n".join(made.out))
    keys.chmod(0o600)
    own = await OwnPage.open(stage, "--token-keys", str(keys))
    faults, asked = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    async with asyncio.timeout(SCENE_S):
        await page.goto(own.url)
        await page.get_by_role("button", name="Count down").click()
        number, say = page.get_by_role("status"), page.get_by_role("button", name="Say")
        much_later = range(await left_in(number) - 16)
        await expect(number).to_have_text(re.compile("|".join(f"^{left}$" for left in much_later)), timeout=60_000)
        await page.get_by_role("textbox").fill("wait")
        await say.click()
        await expect(page.get_by_role("alert")).to_have_text('the only word is "hold"', timeout=20_000)
        await page.get_by_role("textbox").fill("hold")
        await say.click()
        await expect(number).to_have_text(re.compile(r"finished: held at \d+"), timeout=20_000)
    assert len([url for url in asked if url.endswith("/token")]) > 3
    assert not faults


async def test_a_page_takes_the_next_edge_as_the_docs_show(stage: Stage, page: Page) -> None:
    write_own_page(stage.folder)
    redis, port = (await stage.embedded()).url, free_port()
    origin = f"http://127.0.0.1:{port}"
    await stage.worker("countdown.py", redis)
    edges = [await stage.edge(redis, "--origin", origin) for _ in range(2)]
    tx = await stage.start(edges[0].url, "Countdown", left=60)
    [shown] = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "http.md").read_text(), re.DOTALL)
    text = SEVERAL.replace("EDGES", str([edge.url for edge in edges])).replace("TX", tx).replace("SHOWN", shown)
    (stage.folder / "several.html").write_text(text)
    serve = ("-m", "http.server", "--bind", "127.0.0.1", str(port))
    await (await stage.spawn("pages", sys.executable, *serve)).says("Serving")
    async with asyncio.timeout(SCENE_S):
        await page.goto(f"{origin}/several.html")
        number = page.get_by_role("status")
        left = await left_in(number)
        await edges[0].kill()
        await page.wait_for_function("(n) => Number(document.querySelector('h1').textContent) <= n", arg=left - 6)
