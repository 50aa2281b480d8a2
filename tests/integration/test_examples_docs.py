"""The code of docs/how-to: each page's blocks as a module of their own, run in virtual time or on a real deployment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from orbit import Broker, State, TransactionFailed
from orbit.pytest_plugin import Dev
from orbit.state import HOOKS, Options, Transaction
from orbit.testing import Bench, assert_crash_consistent, replay_snapshots, run
from tests.support.pages import ROOT, adapted, as_module, blocks, run_block, shell, the_block, unload

Page = Callable[[str], ModuleType]
HOW_TO = "docs/how-to"
DAY_S = 86_400.0


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    loaded: list[ModuleType] = []

    def load(name: str) -> ModuleType:
        module = as_module(f"{HOW_TO}/{name}.md", f"how_to_{name.replace('-', '_')}", tmp_path)
        loaded.append(module)
        return module

    yield load
    for module in loaded:
        unload(module)


async def outcome(bench: Bench, state: Any) -> tuple[Any, list[Any]]:
    """Its result and its updates."""
    job = await bench.start(state)
    result = await job.result()
    return result, await job.updates()


def test_steps(page: Page) -> None:
    steps = page("steps")

    async def sale(bench: Bench) -> Any:
        steps.PAID.clear()
        told = await outcome(bench, steps.Sale(order="7", cents=450))
        return told, list(steps.PAID.values())

    (receipt, updates), paid = assert_crash_consistent(sale, steps).outcome["returned"]
    assert receipt.startswith("7: receipt ")
    assert (updates, paid) == ([{"paid": receipt}], [450])

    async def archive(bench: Bench) -> Any:
        return await outcome(bench, steps.Archive())

    size, updates = run(archive, steps)
    assert 0 < size < 160_000
    assert sorted(update["packing"] for update in updates) == [[0, 10_000], [10_000, 20_000]]


def test_sleeps_and_timers(page: Page) -> None:
    sleeps = page("sleeps-and-timers")

    async def trial(bench: Bench) -> Any:
        told = await outcome(bench, sleeps.Trial())
        return told, round(bench.now_s / DAY_S)

    whole = ("over", ["welcome", "half of it is over"])
    assert assert_crash_consistent(trial, sleeps).outcome["returned"] == (whole, 14)

    async def auction(bench: Bench) -> Any:
        job = await bench.start(sleeps.Auction())
        for after_s, bid in ((0, 10), (290, 20), (5, 15), (290, 30)):
            await bench.pass_time(after_s)
            if await job.status() != "finished":
                await job.send(bid)
                await bench.settle()
        return await job.result(), await job.updates()

    assert run(auction, sleeps) == (20, [10, 20])


def test_waiting_for_messages(page: Page) -> None:
    waiting = page("waiting-for-messages")

    async def booking(bench: Bench) -> Any:
        job = await bench.start(waiting.Booking())
        ann = await job.connect("ann", subject="Ann")
        await ann.send(4)
        await ann.send("yes")
        return await job.result(), await ann.updates()

    report = assert_crash_consistent(booking, waiting)
    updates = ["for how many?", "4 seats, is that right?"]
    assert report.outcome["returned"] == ({"booked": 4, "by": "Ann"}, updates)

    async def nobody(bench: Bench) -> Any:
        return await outcome(bench, waiting.Booking())

    assert run(nobody, waiting) == ({"booked": 0}, updates[:1])

    async def collection(bench: Bench) -> Any:
        job = await bench.start(waiting.Collection())
        client = await job.connect("ann")
        for number in (1, "two", 3, "done"):
            await client.send(number)
        return await job.result(), await client.updates()

    report = assert_crash_consistent(collection, waiting)
    assert report.outcome["returned"] == (4, [1, "a number, or done", 4])

    async def crawl(bench: Bench) -> Any:
        job = await bench.start(waiting.Crawl(pages=1000))
        await job.until_updates(2)
        await job.send("stop")
        return await job.result() < 1000, (await outcome(bench, waiting.Crawl(pages=3)))

    assert run(crawl, waiting) == (True, (3, [1, 2, 3]))


def test_children(page: Page) -> None:
    children = page("children")

    async def whole(bench: Bench) -> Any:
        return await outcome(bench, children.Whole(edges=[0, 5, 10]))

    report = assert_crash_consistent(whole, children)
    assert report.outcome["returned"] == (45, [{"done": 1, "of": 2}, {"done": 2, "of": 2}])

    async def fails(bench: Bench) -> None:
        job = await bench.start(children.Whole(edges=[5, 0]))
        with pytest.raises(TransactionFailed, match="there is nothing between them"):
            await job.result()

    run(fails, children)


async def test_limits_and_queues(page: Page, orbit_dev: Callable[..., Dev]) -> None:
    limits = page("limits-and-queues")
    dev = orbit_dev(limits)
    code = the_block(f"{HOW_TO}/limits-and-queues.md", "async with")
    names = await run_block(adapted(code, redis=dev.redis))
    async with Broker(dev.redis) as broker:
        assert await broker.result(names["urgent"]) == "ann 0"
        assert (await broker.get(names["later"])).status == "pending"
        moved = await broker.get(names["moved"])
        assert (moved.queue, moved.waiting_for) == ("bulk", "worker")
        txs = [await broker.start(limits.Encode(user="dot", n=n)) for n in range(4)]
        mail = [await broker.start(limits.Mail(to=str(n))) for n in range(3)]
        assert [await broker.result(tx) for tx in (*txs, *mail)] == [
            *(f"dot {n}" for n in range(4)), *(f"sent to {n}" for n in range(3))
        ]  # fmt: skip
        infos = [await broker.get(tx) for tx in txs]
    ends = sorted(info.ended_at for info in infos if info.ended_at)
    assert (ends[-1] - ends[0]).total_seconds() >= 0.4, "two at once"


async def test_schedules(
    page: Page, orbit_dev: Callable[..., Dev], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dev = orbit_dev(page("schedules"))
    schedules = f"{HOW_TO}/schedules.md"
    await run_block(adapted(the_block(schedules, "async with"), redis=dev.redis))
    assert "nightly report Report 30 2 * * * Europe/Berlin" in capsys.readouterr().out
    (commands,) = blocks(schedules, "sh")
    out = await shell(commands, env={"ORBIT_REDIS": dev.redis}, folder=tmp_path)
    assert out.startswith("nightly report\tReport\t30 2 * * *\tEurope/Berlin\t")
    async with Broker(dev.redis) as broker:
        assert await broker.schedules() == ()


def test_versions(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = page("versions")
    monkeypatch.chdir(tmp_path)
    old = {"state": "Cart", "version": 1, "fields": {"names": ["tea", "tea", "rice"]}}
    (tmp_path / "snapshots.jsonl").write_text(json.dumps(old))
    versions.test_what_runs_can_be_taken_over()
    assert versions.Cart.migrate(1, old["fields"]) == {"items": {"tea": 2, "rice": 1}}

    async def cart(bench: Bench) -> Any:
        job = await bench.start(versions.Cart())
        await job.send("tea")
        return await job.until_updates(1)

    assert run(cart, versions) == [{"tea": 1}]


async def test_the_snapshots_that_run(page: Page, orbit_dev: Callable[..., Dev], tmp_path: Path) -> None:
    versions = page("versions")
    dev = orbit_dev(versions)
    async with Broker(dev.redis) as broker:
        await broker.start(versions.Cart(items={"tea": 1}))
    (command,) = blocks(f"{HOW_TO}/versions.md", "sh")
    await shell(command, env={"ORBIT_REDIS": dev.redis}, folder=tmp_path)
    assert replay_snapshots(tmp_path / "snapshots.jsonl", versions) == {("Cart", 2): 1}


def test_failures(page: Page) -> None:
    failures = page("failures")

    async def sync(bench: Bench) -> Any:
        return await outcome(bench, failures.Sync()), bench.now_s

    (told, now_s) = run(sync, failures)
    assert told == (3, [])
    assert now_s > 1, "a step's two attempts, then those of the run after its pause"


class Broken(State, retries=0):
    mended: ClassVar[bool] = False

    async def run(self) -> str:
        if not self.mended:
            raise ValueError("not yet")
        return "done"


async def test_dead_letters(orbit_dev: Callable[..., Dev], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = orbit_dev(Broken)
    (commands,) = blocks(f"{HOW_TO}/failures.md", "sh")
    async with Broker(dev.redis) as broker:
        tx = await broker.start(Broken())
        with pytest.raises(TransactionFailed):
            await broker.result(tx)
        monkeypatch.setattr(Broken, "mended", True)
        out = await shell(commands.replace("ID", tx), env={"ORBIT_REDIS": dev.redis}, folder=tmp_path)
        assert 'ValueError("not yet")' in out or "ValueError: not yet" in out
        assert await broker.result(tx) == "done"


def test_cancelling(page: Page) -> None:
    cancelling = page("cancelling")

    async def seat(bench: Bench) -> Any:
        cancelling.BOOKED.clear()
        job = await bench.start(cancelling.Seat(seat="12a"))
        await job.until_updates(1)
        await job.cancel("changed my mind")
        await job.ended()
        return await job.updates(), cancelling.BOOKED

    assert run(seat, cancelling) == (["booked", {"freed": "12a", "why": "changed my mind"}], [])


def test_resources_and_middleware(page: Page) -> None:
    resources = page("resources-and-middleware")

    async def lookup(bench: Bench) -> Any:
        job = await bench.start(resources.Lookup())
        await job.until_updates(1)
        await job.send("hello")
        return await job.until_updates(2)

    assert run(lookup, resources) == ["run, for Lookup.step", "hello, for Lookup.on_update"]
    assert resources.LOG == ["closed"]


def test_testing(page: Page) -> None:
    testing = page("testing")
    testing.test_an_order_is_late_and_then_shipped()
    testing.test_a_crash_shows_nowhere()


async def test_testing_for_real(page: Page, orbit_dev: Callable[..., Dev]) -> None:
    await page("testing").test_over_an_edge(orbit_dev)


# ---- whole, and linked


def test_the_page_of_states_names_all_there_is() -> None:
    text = (ROOT / "docs/states.md").read_text()
    for option in fields(Options):
        assert f"| `{option.name}` |" in text, option.name
    for hook in (*HOOKS, "migrate"):
        assert f"| `{hook}(" in text, hook
    for verb in (name for name in vars(Transaction) if not name.startswith("_") and name != "sync"):
        assert re.search(rf"^\|.*\b{verb}\b.*\| (yes|no|first|without)", text, re.MULTILINE), verb


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_each_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for place, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / place if place else page
        assert target.exists(), f"{page.name}: {place}"
        assert not anchor or anchor in slugs(target), f"{page.name}: {place}#{anchor}"
