"""`orbit dev`: everything on one machine, each part in a process of its own, as it would run in production."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from orbit.cli.children import ORBIT, Child, ending, url_in
from orbit.cli.failures import DEFINITION, CommandError
from orbit.cli.life import DRAINING
from orbit.cli.output import Voices, note
from orbit.cli.running import Running, announced
from orbit.store.durability import Durability
from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
HEALTHY_S = 10.0
"""A child that lived this long is started again at once; one that dies again and again, ever later."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `orbit dev` was asked to run."""

    app: str
    host: str
    port: int
    workers: int
    redis: str | None
    reload: bool
    insecure: bool
    token_keys: str | None
    audience: str | None
    origins: tuple[str, ...]
    namespace: str
    partitions: int | None
    durability: Durability | None
    lease_s: float
    drain_s: float
    log_level: str
    log_format: str


async def run_dev(plan: Plan, stop: asyncio.Event) -> None:
    """Run it all until `stop` is set, and take it down.

    Raises:
        CommandError: A part couldn't start: its own line and status.
    """
    watched = watchable(plan.app) if plan.reload else None
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(embedded()) if plan.redis is None else plan.redis
        await check(redis, plan)
        team = Team(plan, redis, stop)
        stack.push_async_callback(team.stop)
        if not await team.start():
            return
        stack.enter_context(announced(Running(os.getpid(), team.url, redis, plan.namespace)))
        team.introduce()
        await team.keep(watched)


@asynccontextmanager
async def embedded() -> AsyncIterator[str]:
    """A private server for as long as the block runs: its URL."""
    async with EmbeddedServer() as server:
        yield server.url


async def check(redis: str, plan: Plan) -> None:
    """See that Redis is there and fit, so that what is wrong with it is said once and not by each child."""
    settings = StoreSettings(namespace=plan.namespace, partitions=plan.partitions, durability=plan.durability)
    await (await Store.open(redis, settings)).close()


class Team:
    """One edge and N workers."""

    def __init__(self, plan: Plan, redis: str, stop: asyncio.Event) -> None:
        self.url = ""
        self._plan = plan
        self._redis = redis
        self._stop = stop
        self._voices = Voices()
        self._settled = False
        self._reloading: set[str] = set()
        self._change = asyncio.Event()
        self._edge = self._child("edge", self._edge_arguments())
        self._workers = [self._child(f"worker {n + 1}", self._worker_arguments()) for n in range(plan.workers)]

    def _child(self, name: str, arguments: list[str]) -> Child:
        plan = self._plan
        env = {
            "ORBIT_REDIS": self._redis,  # not an argument: it may hold a password
            "ORBIT_NAMESPACE": plan.namespace,
            "ORBIT_DRAIN_S": str(plan.drain_s),
            "ORBIT_LOG_LEVEL": plan.log_level,
            "ORBIT_LOG_FORMAT": plan.log_format,
            "ORBIT_HEALTH_PORT": "",  # one port can't serve several workers
        }
        if plan.insecure:
            env["ORBIT_INSECURE"] = "1"
        return Child(name, [*ORBIT, *arguments], lambda line: self._hear(name, line), env)

    def _edge_arguments(self) -> list[str]:
        """The port comes last: see `start`."""
        plan = self._plan
        said = {"token-keys": plan.token_keys, "audience": plan.audience}
        access = [f"--{name}={value}" for name, value in said.items() if value is not None]
        origins = [f"--origin={origin}" for origin in plan.origins]
        return ["edge", "--host", plan.host, *access, *origins, "--port", str(plan.port)]

    def _worker_arguments(self) -> list[str]:
        return ["worker", self._plan.app, "--lease-s", str(self._plan.lease_s), "--rebuild-fields"]

    def _hear(self, name: str, line: str) -> None:
        # What this process says itself, or will: see Child.ready and _pause.
        if line == DRAINING:
            return
        if line.startswith("orbit: ") or (not self._settled and line.startswith("orbit ")):
            return
        self._voices.hear(name, line)

    async def start(self) -> bool:
        """Start all and wait until they are ready; False where `stop` was set before that."""
        team = [self._edge, *self._workers]
        await asyncio.gather(*(child.start() for child in team))
        ready = asyncio.gather(*(child.ready() for child in team))
        stopped = asyncio.create_task(self._stop.wait())
        waited: list[asyncio.Future[Any]] = [ready, stopped]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                return False
            self.url = url_in(ready.result()[0])
        finally:
            ready.cancel()
            stopped.cancel()
        # Should the edge be started again, it is where it was.
        port = urlsplit(self.url).port
        self._edge.command[-1] = str(port)
        self._settled = True
        return True

    def introduce(self) -> None:
        """Say what runs, and last that it is ready."""
        kind = "private server" if self._plan.redis is None else "server"
        self._voices.say(f"redis     {without_password(self._redis)} ({kind})")
        self._voices.say(f"edge      {self.url} (pid {self._edge.pid})")
        for worker in self._workers:
            self._voices.say(f"{worker.name}  {self._plan.app} (pid {worker.pid})")
        note(f"orbit dev ready {self.url} redis={without_password(self._redis)} workers={len(self._workers)}")

    async def keep(self, watched: Path | None) -> None:
        """Keep all alive until `stop` is set."""
        tasks = [
            asyncio.create_task(self._keep(child), name=f"keep {child.name}") for child in [self._edge, *self._workers]
        ]
        if watched is not None:
            tasks.append(asyncio.create_task(self._watch(watched), name="watch"))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of them returns by itself: it raised
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)

    async def stop(self) -> None:
        """Let all leave, workers before the edge that shows what they do last."""
        within_s = self._plan.drain_s + 2.0
        await asyncio.gather(*(worker.stop(within_s) for worker in self._workers))
        await self._edge.stop(within_s)

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began = loop.time()
            code = await child.ended()
            if child.name in self._reloading:
                self._reloading.discard(child.name)
                pause_s = FIRST_PAUSE_S
            else:
                pause_s = FIRST_PAUSE_S if loop.time() - began > HEALTHY_S else min(pause_s * 2, LONGEST_PAUSE_S)
                await self._pause(child, code, pause_s)
            await child.start()

    async def _pause(self, child: Child, code: int, pause_s: float) -> None:
        """Say that a child ended, and wait before it is started again: for new code, where the code is wrong."""
        why = child.last_line.removeprefix("orbit: ") if child.last_line.startswith("orbit: ") else ending(code)
        if code == DEFINITION and self._plan.reload:
            self._voices.say(f"{child.name}: {why}; it starts again when the code changes")
            await self._change.wait()
            return
        self._voices.say(f"{child.name}: {why}; it starts again in {pause_s:g} s")
        change = asyncio.create_task(self._change.wait())
        await asyncio.wait([change], timeout=pause_s)
        change.cancel()

    async def _watch(self, directory: Path) -> None:
        import watchfiles  # an extra; `watchable` saw that it is there

        async for changes in watchfiles.awatch(directory, watch_filter=watchfiles.PythonFilter()):
            names = sorted({_below(directory, path) for _, path in changes})
            self._voices.say(f"changed: {', '.join(names[:5])}; the workers start again")
            change, self._change = self._change, asyncio.Event()
            change.set()
            await asyncio.gather(*(self._restart(worker) for worker in self._workers))

    async def _restart(self, worker: Child) -> None:
        if worker.alive:
            self._reloading.add(worker.name)
            await worker.stop(self._plan.drain_s + 2.0)


def watchable(app: str) -> Path:
    """What `--reload` watches.

    Raises:
        CommandError: It can't be watched.
    """
    if importlib.util.find_spec("watchfiles") is None:
        raise CommandError("--reload needs watchfiles: pip install 'orbit-broker[reload]'")
    return source_directory(app)


def source_directory(app: str) -> Path:
    """Where the code of APP lies, found without running it."""
    module = app.partition(":")[0]
    if module.endswith(".py") or os.sep in module:
        return Path(module).resolve().parent
    top = module.partition(".")[0]
    local = Path.cwd() / top
    if local.is_dir():
        return local
    if local.with_suffix(".py").is_file():
        return Path.cwd()
    found = importlib.util.find_spec(top)
    if found is None or found.origin is None:
        raise CommandError(f"there is no module {top} to watch", DEFINITION)
    return Path(found.origin).parent


def _below(directory: Path, path: str) -> str:
    return os.path.relpath(path, directory)


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
