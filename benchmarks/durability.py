"""What each durability costs: commits per second, and how long a message takes to be stored, at the store itself.

What worker, edge and client add is the same for each, and stands under `path`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import header, line, percentiles
from benchmarks.yardstick import script_round_trips
from orbit.protocol.ids import Epoch, PublicName, TxId
from orbit.store import types as t
from orbit.store.durability import durability
from orbit.store.embedded import EmbeddedServer
from orbit.store.embedded.group import follows, until
from orbit.store.starts import draw_id
from orbit.store.store import Store


@dataclass(frozen=True, slots=True)
class Kind:
    """`appendfsync` of each server; how many replicas; which share of what is measured of others is measured of it."""

    name: str
    appendfsync: str
    replicas: int = 0
    share: float = 1.0


KINDS = (
    Kind("memory", "no"), Kind("replicated", "no", 1), Kind("replicated, of two", "no", 2), Kind("fsync", "always"),
    Kind("replicated-fsync", "always", 1), Kind("fsync, once a second", "everysec", share=0.02),
)  # fmt: skip


@asynccontextmanager
async def servers(appendfsync: str, replicas: int) -> AsyncIterator[str]:
    """A primary and its replicas: the primary's URL."""
    config = {"appendfsync": appendfsync, "repl-diskless-sync-delay": "0"}
    async with EmbeddedServer(tcp=True, config=config) as primary:
        behind = [
            EmbeddedServer(tcp=True, config={**config, "replicaof": f"127.0.0.1 {primary.port}"})
            for _ in range(replicas)
        ]
        try:
            for server in behind:
                await server.start()
                await until("a first copy", lambda server=server: follows(server))  # type: ignore[misc]
            yield primary.url
        finally:
            for server in behind:
                await server.stop()


class Measured:
    """One durability's servers, spoken to by a store alone, and what was measured of it so far."""

    def __init__(self, kind: Kind, url: str, store: Store) -> None:
        self.kind = kind
        self.url = url
        self.store = store
        self.yardstick: list[float] = []
        self.one_run: list[float] = []
        self.hundred: list[float] = []
        self.alone: list[float] = []
        self.many: list[float] = []

    async def begin(self) -> tuple[TxId, Epoch]:
        """A transaction that runs."""
        tx = draw_id()
        spec = t.Spec(f"q-{tx[:8].replace('_', '.')}", "Bench", 1)
        await self.store.start(t.NewTransaction(tx, "Bench", 1, spec.queue, b"{}", "digest", False, 1_000, 60.0))
        (grant,) = await self.store.claim(self.store.partition_of(tx), "bench", [spec], 1, 600_000, tx)
        return tx, grant.epoch

    async def commits(self, runs: int, each: int) -> float:
        """Per second, of so many runs that await each of theirs."""
        grants = await asyncio.gather(*(self.begin() for _ in range(runs)))

        async def run(tx: TxId, epoch: Epoch) -> None:
            for number in range(each):
                update = t.NewUpdate(b"x" * 100)
                answer = await self.store.commit(t.Commit(tx, epoch, number, (update,), b'{"n":1}', lease_ms=10_000))
                if not isinstance(answer, t.Done):
                    raise SystemExit(f"{self.kind.name}: a commit was answered {answer}")

        began = time.perf_counter()
        await asyncio.gather(*(run(*grant) for grant in grants))
        return runs * each / (time.perf_counter() - began)

    async def receipts(self, sessions: int, each: int) -> list[float]:
        """How long each message takes to be stored, of so many sessions that await each of theirs."""
        tx, _ = await self.begin()
        samples: list[float] = []

        async def send(session: PublicName) -> None:
            for mid in range(1, each + 1):
                began = time.perf_counter()
                answer = await self.store.append(tx, t.NewMessage(b"x" * 100, session, mid))
                if not isinstance(answer, t.Stored):
                    raise SystemExit(f"{self.kind.name}: a message was answered {answer}")
                samples.append(time.perf_counter() - began)

        await asyncio.gather(*(send(PublicName(f"session {n}")) for n in range(sessions)))
        return samples

    async def round(self, size: int) -> None:
        size = max(1, int(size * self.kind.share))
        self.yardstick.append(await script_round_trips(self.url, 64, 0.5))
        self.one_run.append(await self.commits(1, size * 4))
        self.hundred.append(await self.commits(100 if size > 4 else 20, max(1, size // 5)))
        self.alone += await self.receipts(1, size)
        self.many += await self.receipts(20, max(1, size // 5))

    def tell(self) -> None:
        print(f" {self.kind.name}")
        line("yardstick: append+publish scripts/s, 64 tasks", f"{median(self.yardstick):8.0f}")
        line("commits/s, one run awaiting each", f"{median(self.one_run):8.0f}")
        line("commits/s, 100 runs", f"{median(self.hundred):8.0f}")
        line("a message stored, one at a time", percentiles(self.alone))
        line("a message stored, 20 at a time", percentiles(self.many))


async def measured(kind: Kind, stack: AsyncExitStack) -> Measured:
    url = await stack.enter_async_context(servers(kind.appendfsync, kind.replicas))
    chosen = durability(kind.name.partition(",")[0], kind.replicas or None)
    settings = t.StoreSettings(durability=chosen, partitions=16, inbox_messages=10**6)
    store = await Store.open(url, settings, wait=True)
    stack.push_async_callback(store.close)
    one = Measured(kind, url, store)
    await one.commits(1, 4)
    return one


async def measure(quick: bool) -> None:
    """All are there at once, and are measured in turns: so what else the machine does falls on each alike."""
    header()
    size, rounds = (40, 3) if quick else (200, 3)
    async with AsyncExitStack() as stack:
        all_of_them = [await measured(kind, stack) for kind in KINDS]
        for _ in range(rounds):
            for one in all_of_them:
                await one.round(size)
        for one in all_of_them:
            one.tell()
