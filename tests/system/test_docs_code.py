"""The code that README and docs show runs as it stands there; only addresses and ids are this run's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbit import Broker, Client, SyncBroker
from orbit.errors import BadRequest
from orbit.testing import Bench, run
from tests.support.pages import (
    PATIENCE_S,
    ROOT,
    adapted,
    as_module,
    blocks,
    lines_of,
    run_block,
    shell,
    the_block,
    unload,
)
from tests.support.processes import Process, Stage

pytestmark = pytest.mark.system
README, CLIENTS, COMMANDS, HTTP = "README.md", "docs/clients.md", "docs/command-line.md", "docs/http.md"
RUNNING, STATES, TOKENS = "docs/running.md", "docs/states.md", "docs/tokens.md"
FRAMEWORKS = "docs/web-frameworks.md"
HOW_TO = "docs/how-to"
# How many blocks of Python each page has. A block more is a test more: for those of docs/how-to in
# tests/integration/test_examples_docs.py; the last page's are run in a browser.
SHOWN = {
    README: 1, CLIENTS: 3, RUNNING: 1, STATES: 5, TOKENS: 1, FRAMEWORKS: 3,
    f"{HOW_TO}/cancelling.md": 1, f"{HOW_TO}/children.md": 1, f"{HOW_TO}/failures.md": 1,
    f"{HOW_TO}/limits-and-queues.md": 2, f"{HOW_TO}/resources-and-middleware.md": 1, f"{HOW_TO}/schedules.md": 2,
    f"{HOW_TO}/sleeps-and-timers.md": 2, f"{HOW_TO}/steps.md": 2, f"{HOW_TO}/testing.md": 4, f"{HOW_TO}/versions.md": 2,
    f"{HOW_TO}/waiting-for-messages.md": 3,
}  # fmt: skip


async def fleet(stage: Stage, *apps: str) -> tuple[str, Process]:
    """A server, an edge, and a worker for each of the modules."""
    redis = (await stage.embedded()).url
    for number, app in enumerate(apps):
        folder = stage.folder / f"app{number}"
        folder.mkdir()
        (folder / "app.py").write_text(app)
        await stage.worker(folder / "app.py", redis)
    return redis, await stage.edge(redis)


def test_each_block_of_python_is_run() -> None:
    pages = [README, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
    assert {page: count for page in pages if (count := len(blocks(page)))} == SHOWN


async def test_the_readme_s_first_state(stage: Stage) -> None:
    (stage.folder / "counter.py").write_text(blocks(README)[0])
    _, serve, start = lines_of(next(block for block in blocks(README, "sh") if "orbit dev" in block))
    assert serve == "orbit dev counter.py"
    dev = await stage.dev(stage.folder / "counter.py")
    out = await shell(start, env={"ORBIT_URL": dev.url}, folder=stage.folder)
    assert [json.loads(line) for line in out.splitlines()[1:]] == [{"n": n} for n in range(1, 1001)]


async def test_the_clients_of_the_page(stage: Stage) -> None:
    counter, poll = blocks(README)[0], the_block(STATES, "class Poll")
    redis, edge = await fleet(stage, counter, poll)
    other = await stage.edge(redis)
    asynchronous, synchronous, over_edges = blocks(CLIENTS)
    scope: dict[str, Any] = {"__name__": "counter"}
    exec(counter, scope)
    await run_block(adapted(asynchronous, redis=redis), Counter=scope["Counter"])
    await asyncio.to_thread(exec, adapted(synchronous, redis=redis), {})

    cancelled: list[str] = []

    async def end(client: Client, tx: str) -> None:
        if not cancelled:
            cancelled.append(tx)
            await client.cancel(tx)

    over_edges = over_edges.replace("print(event)", "print(event); await end(client, tx)")
    assert "await end" in over_edges  # the page's poll never ends by itself
    await run_block(adapted(over_edges, one=edge.url, two=other.url), end=end)
    assert cancelled


async def test_the_commands_of_the_clients_page(stage: Stage) -> None:
    counter, poll = blocks(README)[0], the_block(STATES, "class Poll")
    redis, edge = await fleet(stage, counter, poll)
    start, tail, send, rest = lines_of(blocks(CLIENTS, "sh")[0])
    env = {"ORBIT_URL": edge.url}
    tx = (await shell(start, env=env, folder=stage.folder)).strip()
    followed = await shell(tail.replace("ID", tx), env=env, folder=stage.folder)
    assert [json.loads(line)["type"] for line in followed.splitlines()][-1] == "end"
    async with Broker(redis) as broker:
        asked = await broker.start("Poll", {"question": "tea?"})
    await shell(send.replace("ID", asked), env=env, folder=stage.folder)
    result, cancel, retry, listed, show = (command.strip() for command in rest.split(";"))
    assert await shell(result.replace("ID", tx), env=env, folder=stage.folder) == "1000\n"
    await shell(cancel.replace("ID", asked), env=env, folder=stage.folder)
    with pytest.raises(AssertionError, match="finished"):
        await shell(retry.replace("ID", tx), env=env, folder=stage.folder)
    await shell(listed, env=env, folder=stage.folder)
    assert "finished" in await shell(show.replace("ID", tx), env=env, folder=stage.folder)


def has(*programs: str) -> None:
    """Skip where a program is missing; in CI that is a failure."""
    for program in programs:
        if shutil.which(program) is None:
            assert not os.environ.get("CI"), f"{program} isn't on the PATH"
            pytest.skip(f"needs {program}")


async def test_the_commands_in_scripts(stage: Stage) -> None:
    has("bash", "jq")
    _, edge = await fleet(stage, blocks(README)[0])
    help_, script = blocks(COMMANDS, "sh")
    env = {"ORBIT_URL": edge.url}
    out = await shell(script, env=env, folder=stage.folder)
    *updates, result, listed = out.splitlines()
    assert ([json.loads(line)["n"] for line in updates], result) == ([1, 2, 3], "3")
    assert listed.endswith(" finished")
    shown = await shell(*lines_of(help_)[:2], env=env, folder=stage.folder)
    assert "retry" in shown
    assert "--follow" in shown
    complete = {"_ORBIT_COMPLETE": "complete_bash", "COMP_WORDS": "orbit re", "COMP_CWORD": "1"}
    assert (await shell("orbit", env=complete, folder=stage.folder)).split() == ["retry", "result"]


async def test_curl(stage: Stage) -> None:
    has("bash", "curl", "jq")
    _, edge = await fleet(stage, the_block(STATES, "class Poll"))
    out = await shell(blocks(HTTP, "sh")[0], env={"EDGE": edge.url}, folder=stage.folder)
    *sent, cancelled, ended = [json.loads(line) for line in out.splitlines()]
    assert sent == [*({"duplicate": known} for known in (False, False, True)), *[{"yes": 1, "no": 0}] * 2]
    assert cancelled["status"] in ("running", "pending", "cancelled")
    assert ended == {"status": "cancelled"}


def test_the_three_tools(tmp_path: Path) -> None:
    page = as_module(STATES, "states_page", tmp_path)

    async def scenario(bench: Bench) -> list[Any]:
        told = []
        for state in (page.Countdown(), page.Sale(order="7"), page.Import(rows=3), page.Resize(url="x", width=9)):
            job = await bench.start(state)
            result = await job.result()
            told += [*await job.updates(), result]
        return told

    async def crashed(bench: Bench) -> list[Any]:
        job = await bench.start(page.Import(rows=3))
        await job.until_updates(1)
        await bench.crash()
        return [await job.result(), len(await job.updates())]

    try:
        assert run(scenario, page) == [
            2, 1, 0, "lift-off", {"paid": "receipt for 7"}, "receipt for 7",
            {"row": 0, "total": 0}, {"row": 1, "total": 1}, {"row": 2, "total": 5}, 5, "x@9",
        ]  # fmt: skip
        assert run(crashed, page) == [5, 3]
    finally:
        unload(page)


async def test_the_poll_and_what_is_input(stage: Stage) -> None:
    redis, edge = await fleet(stage, the_block(STATES, "class Poll"), the_block(STATES, "class Resize"))

    def watch() -> list[Any]:
        with SyncBroker(redis) as broker:
            tx = broker.start("Poll", {"question": "tea?"})
            for answer in ("yes", "perhaps", "no"):
                broker.send(tx, answer)
            poll = broker.updates(tx)
            votes = [next(poll).data for _ in range(2)]
            broker.cancel(tx)
            return votes

    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.to_thread(watch) == [{"yes": 1, "no": 0}, {"yes": 0, "no": 1}]
    async with Client(edge.url) as client:
        for wrong in ({"url": "x", "width": 0}, {"url": "x", "width": 1, "more": 1}):
            with pytest.raises(BadRequest):
                await client.start("Resize", wrong)


async def test_the_tokens_of_the_page(stage: Stage) -> None:
    make, serve, sign = lines_of(blocks(TOKENS, "sh")[0])
    redis = (await stage.embedded()).url
    (stage.folder / "app.py").write_text(blocks(README)[0])
    await stage.worker(stage.folder / "app.py", redis)
    await shell(make, env={}, folder=stage.folder)
    options = shlex.split(serve)
    assert options[:4] == ["orbit", "edge", "--redis", "redis://redis:6379"]
    keys = str(stage.folder / "keys.json")
    edge = await stage.edge(redis, *(keys if option == "keys.json" else option for option in options[4:]))
    async with Broker(redis) as broker:
        tx = await broker.start("Counter")
    url = f"http://127.0.0.1:{httpx.URL(edge.url).port}"
    token = (await shell(sign.replace("ID", tx), env={}, folder=stage.folder)).strip()

    def newest_token() -> str:
        return token

    made = await run_block(
        "count = 0\n" + adapted(blocks(TOKENS)[0], edge=url).replace("...", "count += 1"), tx=tx,
        newest_token=newest_token, Client=Client,
    )  # fmt: skip
    assert made["count"] == 10


async def test_the_mounted_edge_of_the_page(stage: Stage) -> None:
    redis, _ = await fleet(stage, blocks(README)[0])
    (stage.folder / "host.py").write_text(adapted(blocks(RUNNING)[0], redis=redis))
    command = ("-m", "uvicorn", "--app-dir", str(stage.folder), "--port", "0", "host:app")
    host = await stage.spawn("host", sys.executable, *command)
    url = re.search(r"http://\S+", await host.says("Uvicorn running on"))
    assert url is not None
    async with Broker(redis) as broker, httpx.AsyncClient(base_url=url[0]) as http:
        tx = await broker.start("Counter")
        assert await broker.result(tx) == 10
        assert (await http.get(f"/orbit/v1/transactions/{tx}")).json()["status"] == "finished"


async def test_the_fleet_of_the_page(stage: Stage) -> None:
    """Each command line of the page starts, and one transaction runs through them."""
    redis = (await stage.embedded()).url
    (stage.folder / "app.py").write_text(blocks(README)[0])
    shown = blocks(RUNNING, "sh")[0].replace("redis://redis:6379", redis)
    worker, edge = (shlex.split(line) for line in lines_of(shown))
    assert (worker[:3], edge[:2]) == (["orbit", "worker", "app.py"], ["orbit", "edge"])
    await (await stage.orbit("worker", str(stage.folder / "app.py"), *worker[3:], "--health-port", "0")).ready()
    served = await (await stage.orbit(*edge[1:-1], "0")).ready()
    async with Broker(redis) as broker, httpx.AsyncClient(base_url=served.url) as http:
        tx = await broker.start("Counter")
        assert await broker.result(tx) == 10
        assert (await http.get(f"/v1/transactions/{tx}")).json()["status"] == "finished"
