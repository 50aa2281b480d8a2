"""An edge over a real store, with a worker that is the test's own hand."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx

from orbit.edge import Capacity, EdgeConfig, Pulse, run_edge
from orbit.protocol.entries import Failure
from orbit.protocol.ids import PublicName, Session, TxId
from orbit.protocol.values import pack
from orbit.store import types as t
from orbit.store.store import Store
from orbit.verify.link import Link
from tests.support.waiting import PATIENCE_S, soon

QUICK = Pulse(
    probe_s=0.05, deaf_s=0.5, beat_s=0.2, dead_s=2.0, sweep_s=0.2, recent_s=0.1, over_s=0.1, linger_s=0.05,
    retry_s=0.05, keys_s=0.1,
)  # fmt: skip
ROOMY = Capacity(lag_s=0)
"""Lets newcomers in however late the loop is."""
SCHEMA = '{"type":"object","properties":{"n":{"type":"integer"}},"additionalProperties":false}'


class Hand:
    """One transaction, and the worker that runs it: each verb is one commit."""

    def __init__(self, store: Store, tx: TxId) -> None:
        self.store = store
        self.tx = tx
        self.grant: t.Grant | None = None
        self.number = 0

    @classmethod
    async def start(
        cls, store: Store, *, hooks: bool = False, keep: int = 10_000, retain_s: float = 100.0
    ) -> Hand:
        tx = TxId(secrets.token_urlsafe(16))
        new = t.NewTransaction(tx, f"Probe.{tx}", 1, "default", b"{}", "digest", hooks, keep, retain_s)
        started = await store.start(new)
        assert started == t.Started(tx)
        return cls(store, tx)

    async def claim(self) -> t.Grant:
        if self.grant is None:
            partition, spec = self.store.partition_of(self.tx), t.Spec("default", f"Probe.{self.tx}", 1)
            [self.grant] = await self.store.claim(partition, "hand", [spec], 1, 60_000, secrets.token_hex(8))
            self.number = self.grant.number
        return self.grant

    async def commit(self, *entries: t.NewUpdate | t.NewRefusal, **more: Any) -> t.Done:
        grant = await self.claim()
        answer = await self.store.commit(t.Commit(self.tx, grant.epoch, self.number, entries=entries, **more))
        assert isinstance(answer, t.Done), answer
        self.number = answer.number
        return answer

    async def update(self, *data: Any, session: str | None = None) -> t.Done:
        name = None if session is None else self.public(session)
        return await self.commit(*(t.NewUpdate(pack(one), name) for one in data))

    async def refuse(self, session: str, mid: int, code: str = "state_error", text: str = "no") -> t.Done:
        return await self.commit(t.NewRefusal(self.public(session), mid, code, text))

    async def finish(self, result: Any = None) -> t.Done:
        return await self.commit(end=t.NewEnd("finished", pack(result)))

    async def fail(self, kind: str, text: str) -> t.Done:
        return await self.commit(end=t.NewEnd("failed", error=Failure(kind, text)))

    async def inbox(self) -> tuple[t.InboxEntry, ...]:
        work = await self.store.read_work(self.tx, None, 1000)
        assert isinstance(work, t.Work)
        return work.incoming

    def public(self, session: str) -> PublicName:
        return self.store.public_name(self.tx, Session(session))


@dataclass
class RunningEdge:
    """An edge process's life, in a task of this one."""

    redis: str
    namespace: str
    config: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    links: list[Link] = field(default_factory=list)

    async def start(self) -> RunningEdge:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.stop = asyncio.Event()
        about = {"port": 0, "pulse": QUICK, "capacity": ROOMY, **self.config}
        config = EdgeConfig(self.redis, namespace=self.namespace, say=self.said.put_nowait, stop=self.stop, **about)
        self.task = asyncio.create_task(run_edge(config))
        async with asyncio.timeout(PATIENCE_S):
            line = ""
            while not line.startswith("orbit edge ready "):
                line = await self.said.get()
        self.url = line.removeprefix("orbit edge ready ")
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=PATIENCE_S)
        return self

    async def close(self) -> None:
        for link in self.links:
            link.abort()
            await link.ws.wait_closed()
        await self.http.aclose()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def link(self, codec: str = "json", **options: Any) -> Link:
        link = await Link.open(self.url, codec, **options)
        self.links.append(link)
        return link

    async def until_ready(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Return when `/readyz` answers with that; it is 503 for a moment whenever the loop was held up."""

        async def answered() -> bool:
            return (await self.http.get("/readyz", headers=headers)).status_code == status

        await soon(answered)

    async def counted(self, name: str) -> float:
        """A number of the edge's metrics; of one with labels, the sum."""
        text = (await self.http.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"orbit_edge_{name}")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if "_created" not in line)


async def attach(link: Link, hand: Hand, **fields: Any) -> dict[str, Any]:
    """Attach and return what was answered."""
    await link.send({"type": "attach", "tx": hand.tx, **fields})
    return await link.expect("attached", "error", tx=hand.tx)


async def take(link: Link, count: int, *types: str) -> list[dict[str, Any]]:
    """The next messages of these types (updates, unless told)."""
    return [await link.expect(*(types or ("update",))) for _ in range(count)]


async def updates(link: Link, count: int) -> list[Any]:
    return [message["data"] for message in await take(link, count)]


async def closed_with(link: Link) -> int:
    """The code that the connection is closed with; what comes before is passed over."""
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            await link.read()
    except ConnectionClosed:
        return link.ws.close_code or 1006
