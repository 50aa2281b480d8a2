"""`Bench`: a whole deployment inside a test: a store, a worker, clients, and time that passes at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from types import ModuleType
from typing import Any, TypeVar

from orbit.config import Limits, RetryPolicy
from orbit.errors import Conflict
from orbit.protocol.ids import TxId
from orbit.state import Lifespan, Middleware, State, check_definition
from orbit.store import types as t
from orbit.store.checks import Deployment
from orbit.store.starts import StartOptions, by_class
from orbit.store.store import Store
from orbit.testing.clock import run_virtual
from orbit.testing.job import Job
from orbit.testing.noticing import NoticingLink
from orbit.testing.points import CrashingStore, Plan, Process
from orbit.testing.worker import TestWorker
from orbit.worker.discover import App

T = TypeVar("T")

PARTITIONS = 4
_TIMEOUT_S = 1e9
"""In virtual time a store that doesn't answer is a defect, not a network."""

Scenario = Callable[["Bench"], Awaitable[T]]


def run(scenario: Scenario[T], *states: type[State] | ModuleType, seed: int = 0, **options: Any) -> T:
    """Run `scenario(bench)` in virtual time and return what it returns.

        def test_counts():
            async def scenario(bench):
                job = await bench.start(Counter(total=3))
                assert await job.result() == 3
                assert await job.updates() == [{"n": 1}, {"n": 2}, {"n": 3}]

            orbit.testing.run(scenario, Counter)

    Args:
        states: The States that its worker runs; a module gives its lifespan and middleware, too.
        seed: What is drawn at random on the bench is drawn from it: ids.
        options: See `Bench`.

    Raises:
        Stuck: The scenario can't come to its end: everything waits.
        Whatever the scenario raises.
    """
    return run_virtual(lambda: _run(scenario, app_of(states), seed, options))


async def _run(scenario: Scenario[T], app: App, seed: int, options: dict[str, Any], plan: Plan | None = None) -> T:
    async with Bench.open(app, seed=seed, plan=plan, **options) as bench:
        return await scenario(bench)


def app_of(given: Iterable[type[State] | ModuleType]) -> App:
    """The States that were given, and what the modules among them hold. Raises DefinitionError."""
    states: dict[type[State], None] = {}
    lifespans: list[Lifespan] = []
    middleware: list[Middleware] = []
    for one in given:
        if isinstance(one, type):
            states[one] = None
            continue
        for value in vars(one).values():
            if isinstance(value, type) and issubclass(value, State) and value is not State:
                states[value] = None
            elif isinstance(value, Lifespan):
                lifespans.append(value)
            elif isinstance(value, Middleware):
                middleware.append(value)
    for cls in states:
        check_definition(cls)
    return App(tuple(states), tuple(lifespans), tuple(middleware))


class Bench:
    """A deployment in this process: its worker runs the turn code of a real one, over a store in memory.

    Attributes:
        jobs: The transactions that were started here, in order.
        random: Drawn from the seed.
    """

    def __init__(
        self, app: App, store: Store, link: NoticingLink, *, seed: int, plan: Plan | None, options: dict[str, Any]
    ) -> None:
        self.jobs: list[Job] = []
        self.random = random.Random(seed)
        self.store = store
        self._app = app
        self._link = link
        self._plan = plan or Plan()
        self._options = options
        self._count = 0
        self._processes: list[Process] = []
        self._worker: TestWorker | None = None
        self._crash_wanted = asyncio.Event()
        self._steady = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, app: App, *, seed: int = 0, plan: Plan | None = None, rebuild_fields: bool = True, grace_s: float = 5.0,
        limits: Limits | None = None, retry: RetryPolicy | None = None,
    ) -> AsyncIterator[Bench]:  # fmt: skip
        """A bench for as long as the block runs; in virtual time (`run`).

        Args:
            rebuild_fields: Rebuild the fields after every commit, so that a reference that is held over one shows.
            grace_s: From a client's leaving to its `on_disconnect`.
        """
        from fakeredis import FakeServer
        from fakeredis.aioredis import FakeAsyncRedisConnection

        server = FakeServer(server_type="redis", version=(7,))
        link = NoticingLink(lambda: FakeAsyncRedisConnection(server=server, protocol=2), _TIMEOUT_S)
        settings = t.StoreSettings(grace_s=grace_s, timeout_s=_TIMEOUT_S)
        store = Store(link, settings, Deployment(PARTITIONS, b"of a bench".ljust(32)))
        options: dict[str, Any] = {"rebuild_always": rebuild_fields}
        options |= {name: value for name, value in (("limits", limits), ("retry", retry)) if value is not None}
        async with AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            for lifespan in app.lifespans:
                options["context"] = await stack.enter_async_context(lifespan.open())
            bench = cls(app, store, link, seed=seed, plan=plan, options=options)
            bench._plan.crash = bench._lose
            await bench._start_worker()
            crashing = asyncio.ensure_future(bench._crash_when_wanted())
            try:
                yield bench
            finally:
                crashing.cancel()
                await asyncio.gather(crashing, return_exceptions=True)
                await bench._stop()

    # ---- transactions

    async def start(
        self, state: State | type[State], input: Mapping[str, Any] | None = None, *, id: str | None = None,
        delay_s: float = 0.0, at: datetime | None = None, queue: str | None = None, priority: int = 0,
    ) -> Job:  # fmt: skip
        """Start a transaction; as `Broker.start`."""
        tx = TxId(id or f"job-{len(self.jobs) + 1:03}-{self.random.getrandbits(64):016x}")
        options = StartOptions(delay_s, at, queue, priority)
        if isinstance(await self.store.start(by_class(state, input or {}, tx, options)), t.Taken):
            raise Conflict("this id is another start's")
        return self.job(tx, type(state) if isinstance(state, State) else state)

    def job(self, tx: str, cls: type[State]) -> Job:
        """A transaction that is there already: a child, by its id."""
        job = Job(self.store, self._link, TxId(tx), cls, f"{cls.__orbit__.name} {len(self.jobs) + 1}")
        self.jobs.append(job)
        return job

    # ---- time and workers

    @property
    def now_s(self) -> float:
        """Seconds of virtual time since the bench was opened."""
        return asyncio.get_running_loop().time()

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass: everything that is due meanwhile happens."""
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Return when nothing runs any more: each transaction is over, asleep, or waits for what isn't there."""
        await self._link.until(self._is_settled)

    async def crash(self) -> None:
        """Lose the worker now, as by SIGKILL; another one takes over at once."""
        self._steady.clear()
        self._lose()
        await self._steady.wait()

    async def hand_over(self) -> None:
        """Drain the worker, as a deploy does; another one takes over."""
        assert self._worker is not None
        await self._worker.stop()
        await self._start_worker()

    def _lose(self) -> None:
        """From this moment on nothing of the worker's process runs any more."""
        self._processes[-1].dead = True
        self._crash_wanted.set()

    async def _is_settled(self) -> bool:
        if self._crash_wanted.is_set():
            return False
        page = await self.store.list(limit=1000)
        return all(one.status != "running" and not _to_run(one) for one in page.transactions)

    async def _start_worker(self) -> None:
        self._count += 1
        process = Process(self._plan)
        self._processes.append(process)
        tapped: Any = CrashingStore(self.store, process)
        options = self._options | {"watch": process.watch}
        self._worker = TestWorker(self.store, self._app, f"worker-{self._count}", tapped, options)
        await self._worker.start()

    async def _crash_when_wanted(self) -> None:
        while True:
            await self._crash_wanted.wait()
            assert self._worker is not None
            held = await self._worker.kill()
            for tx in held:
                await self._expire(tx)
            await self._start_worker()
            self._crash_wanted.clear()
            self._steady.set()

    async def _expire(self, tx: TxId) -> None:
        """As if its lease had run out: whoever looks next counts a crash, and takes over."""
        link, (key, partition) = self._link, self.store.keys.both(tx)
        if await link.read("HGET", key, "lease") is not None:
            await link.write("HSET", key, "lease", "1")
            await link.write("ZADD", f"{partition}:due", 1, f"l:{tx}")

    async def _stop(self) -> None:
        if self._worker is not None:
            self._processes[-1].dead = True
            await self._worker.kill()
        for process in self._processes:
            process.close()


def _to_run(one: t.Transaction) -> bool:
    """Whether a transaction that is pending will be run without anything more to happen."""
    return one.status == "pending" and one.waits is None

