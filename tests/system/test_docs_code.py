"""The code that README and docs show runs as it stands there; only addresses and ids are this run's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbit import Broker, Client, SyncBroker
from tests.support.processes import Process, Stage

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
README, CLIENTS, COMMANDS, HTTP = "README.md", "docs/clients.md", "docs/command-line.md", "docs/http.md"
RUNNING, STATES, TOKENS = "docs/running.md", "docs/states.md", "docs/tokens.md"
FRAMEWORKS = "docs/web-frameworks.md"
# How many blocks of Python each page has. A block more is a test more; the last page's are run in a browser.
SHOWN = {README: 1, CLIENTS: 3, RUNNING: 1, STATES: 4, TOKENS: 1, FRAMEWORKS: 3}
STEPS = '''
from orbit import State

def pay(order: str) -> str:
    return "receipt for " + order

class Tools(State):
    total: int = 2
    n: int = 0
    order: str = "7"
    rows: int = 3
    seen: list[int] = []

    async def import_row(self, row: int) -> None:
        self.seen.append(row)
        await self.transaction.send_update({"row": row})

    async def run(self) -> list[int]:
'''


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def adapted(code: str, **real: str) -> str:
    """`code` with the addresses of this run: each must stand in it."""
    for shown, has in real.items():
        wanted = {"redis": "redis://localhost", "edge": "https://edge.example", "one": "http://edge-1:8000",
                  "two": "http://edge-2:8000"}[shown]  # fmt: skip
        assert wanted in code, code
        code = code.replace(wanted, has)
    return code


async def run_block(code: str, **names: Any) -> dict[str, Any]:
    """Run a block that awaits; returns its names."""
    body = "async def block():\n" + textwrap.indent(code, "    ") + "\n    return locals()\n"
    scope = dict(names)
    exec(compile(body, "docs", "exec"), scope)
    async with asyncio.timeout(PATIENCE_S):
        made: dict[str, Any] = await scope["block"]()
        return made


async def shell(*commands: str, env: dict[str, str], folder: Path) -> str:
    """What the commands printed, the docs' own `orbit` being this one. Raises where one fails."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    shown = await asyncio.create_subprocess_exec(
        "bash", "-e", "-c", "\n".join(commands), cwd=folder, env=os.environ | {"PATH": path} | env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await shown.communicate()
    finally:
        if shown.returncode is None:
            shown.kill()
            await shown.wait()
    assert shown.returncode == 0, err.decode()
    return out.decode()


def lines_of(block: str) -> list[str]:
    return [line.partition("   #")[0].strip() for line in block.splitlines()]


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
    pages = [README, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    assert {page: count for page in pages if (count := len(blocks(page)))} == SHOWN


async def test_the_readme_s_first_state(stage: Stage) -> None:
    (stage.folder / "counter.py").write_text(blocks(README)[0])
    _, serve, start = lines_of(next(block for block in blocks(README, "sh") if "orbit dev" in block))
    assert serve == "orbit dev counter.py"
    dev = await stage.dev(stage.folder / "counter.py")
    out = await shell(start, env={"ORBIT_URL": dev.url}, folder=stage.folder)
    assert [json.loads(line) for line in out.splitlines()[1:]] == [{"n": n} for n in range(1, 1001)]


async def test_the_clients_of_the_page(stage: Stage) -> None:
    counter, poll = blocks(README)[0], blocks(STATES)[0]
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
    counter, poll = blocks(README)[0], blocks(STATES)[0]
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
    _, edge = await fleet(stage, blocks(STATES)[0])
    out = await shell(blocks(HTTP, "sh")[0], env={"EDGE": edge.url}, folder=stage.folder)
    *sent, cancelled, ended = [json.loads(line) for line in out.splitlines()]
    assert sent == [*({"duplicate": known} for known in (False, False, True)), *[{"yes": 1, "no": 0}] * 2]
    assert cancelled["status"] in ("running", "pending", "cancelled")
    assert ended == {"status": "cancelled"}


async def test_the_poll_and_the_three_tools(stage: Stage) -> None:
    poll, *tools = blocks(STATES)
    body = "\n".join(textwrap.indent(tool, " " * 8) for tool in tools) + "\n        return self.seen\n"
    redis, _ = await fleet(stage, poll, STEPS + body)

    def watch() -> list[Any]:
        with SyncBroker(redis) as broker:
            tx = broker.start("Poll", {"question": "tea?"})
            for answer in ("yes", "perhaps", "no"):
                broker.send(tx, answer)
            poll = broker.updates(tx)
            votes = [next(poll).data for _ in range(2)]
            broker.cancel(tx)
            tx = broker.start("Tools")
            return [*votes, *(update.data for update in broker.updates(tx)), broker.result(tx)]

    async with asyncio.timeout(PATIENCE_S):
        first, second, *others = await asyncio.to_thread(watch)
    assert (first, second) == ({"yes": 1, "no": 0}, {"yes": 0, "no": 1})
    rows = [{"row": row} for row in range(3)]
    assert others == [1, 2, {"paid": "receipt for 7"}, *rows, [0, 1, 2]]


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
