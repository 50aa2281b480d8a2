"""Edges that stop hearing what is published, each way that there is: red, a new subscription, all read again, green.

Each time a transaction goes on sending meanwhile, and another sends its last word just then. The clients are
independent; what they saw is compared with the logs at the end.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from orbit.store.embedded import EmbeddedServer, ReplicatedServer
from orbit.verify.client import WireClient
from orbit.verify.follower import Follower
from orbit.verify.proxy import Proxy
from tests.support.processes import Process, Stage
from tests.support.waiting import SCENE_S
from tests.system.conftest import STATES
from tests.system.test_edges import judge

pytestmark = pytest.mark.system


class Scene:
    """One edge, watched by a client; a transaction that sends all the time, and one that says what it is told."""

    def __init__(self, stage: Stage, edge: Process, client: WireClient, busy: Follower, quiet: Follower) -> None:
        self.stage, self.edge, self.client = stage, edge, client
        self.busy, self.quiet = busy, quiet

    @classmethod
    @asynccontextmanager
    async def set(cls, stage: Stage, edge: Process, padding_bytes: int = 0) -> AsyncIterator[Scene]:
        async with WireClient([edge.url], name="watcher") as client, asyncio.timeout(SCENE_S):
            busy = client.follow(await stage.start(edge.url, "Pulse", every_s=0.02, padding_bytes=padding_bytes))
            quiet = client.follow(await stage.start(edge.url, "Watchful"))
            await busy.until(lambda f: len(f.entries) > 10)
            scene = cls(stage, edge, client, busy, quiet)
            yield scene
            for follower in (busy, quiet):
                follower.send("finish")
            for follower in (busy, quiet):
                await follower.until(lambda f: f.end is not None)
            assert not busy.resets
            assert not quiet.resets
            await judge(edge.url, busy)
            await judge(edge.url, quiet)

    async def ready(self, status: int) -> float:
        """Wait until `/readyz` says so; when that was."""
        while (await self.stage.http.get(f"{self.edge.url}/readyz")).status_code != status:
            assert self.edge.alive, self.edge.tail()
        return asyncio.get_running_loop().time()

    async def counted(self, name: str) -> float:
        return await self.stage.metric(self.edge.url, f"orbit_edge_{name}")

    async def go_on(self) -> None:
        """Both transactions are heard, and what they said in between was read."""
        have = len(self.busy.entries)
        marks = self.quiet.updates.count("marked")
        self.quiet.send("mark")
        await self.quiet.until(lambda f: f.updates.count("marked") == marks + 1)
        await self.busy.until(lambda f: len(f.entries) > have + 20)

    async def suffer(self, fault: Callable[[], Awaitable[object]], undo: Callable[[], object] = bool) -> str:
        """From a fault to red to green; how long that took. `undo` is called as soon as it is red."""
        begun = asyncio.get_running_loop().time()
        self.quiet.send("mark")
        await fault()
        red = await self.ready(503)
        undo()
        green = await self.ready(200)
        await self.go_on()
        return f"red after {red - begun:.1f} s, green after {green - begun:.1f} s"


async def test_a_subscription_that_is_killed_or_half_open(stage: Stage, measured: Callable[[str], None]) -> None:
    server = await stage.embedded()
    async with Proxy.before(server.url) as proxy:
        edge = await stage.edge(proxy.url)
        await stage.worker(STATES / "pulse.py", server.url)
        async with Scene.set(stage, edge) as scene:

            async def kill() -> None:
                """The server drops the subscription; a new one can't be had at once, so that it shows."""
                proxy.refusing = True
                await server.command("CLIENT", "KILL", "TYPE", "PUBSUB")

            measured(f"CLIENT KILL: {await scene.suffer(kill, proxy.heal)}")
            assert not await scene.counted("subscriber_restarts_total"), "it noticed by itself"

            async def swallow(*, up: bool = False, down: bool = False) -> None:
                proxy.half_open(up=up, down=down)

            measured(f"half open, nothing comes: {await scene.suffer(lambda: swallow(down=True))}")
            measured(f"half open, nothing goes: {await scene.suffer(lambda: swallow(up=True, down=True))}")


async def test_what_pubsub_loses_in_silence(stage: Stage) -> None:
    """The subscription lives, probes come back, commits don't: nobody is red, and nothing is missed."""
    server = await stage.embedded()
    async with Proxy.before(server.url) as proxy:
        edge = await stage.edge(proxy.url)
        await stage.worker(STATES / "pulse.py", server.url)
        async with Scene.set(stage, edge) as scene:
            proxy.rewrite = lambda data: data.replace(b":live\r\n", b":lost\r\n")
            await scene.go_on()
            assert await scene.counted("live_messages_lost_total")
            await scene.ready(200)


async def test_a_subscriber_that_reads_too_slowly_is_dropped_by_redis(
    stage: Stage, measured: Callable[[str], None]
) -> None:
    """Its output buffer at the server overflows while it is stopped; it finds its connection closed."""
    server = await stage.embedded(config={"client-output-buffer-limit": "pubsub 256kb 128kb 1"})
    edge = await stage.edge(server.url)
    await stage.worker(STATES / "pulse.py", server.url)
    async with Scene.set(stage, edge, padding_bytes=20_000) as scene:
        edge.signal(signal.SIGSTOP)
        while not await _dropped(server):
            pass
        begun = asyncio.get_running_loop().time()
        edge.signal(signal.SIGCONT)
        await scene.go_on()
        await scene.ready(200)
        measured(f"dropped by the server: goes on after {asyncio.get_running_loop().time() - begun:.1f} s")


async def _dropped(server: EmbeddedServer) -> bool:
    return int((await server.info("stats"))["client_output_buffer_limit_disconnections"]) > 0


async def test_a_subscription_left_behind_by_a_failover(stage: Stage, measured: Callable[[str], None]) -> None:
    """What is published goes to the new primary; the old one lives on, alone, and the subscription is there."""
    async with ReplicatedServer() as servers, Proxy.before(servers.url) as proxy:
        old, new = servers.servers
        edge = await stage.edge(proxy.url)
        await stage.worker(STATES / "pulse.py", proxy.url, "--lease-s", "2")
        async with Scene.set(stage, edge) as scene:

            async def fail_over() -> None:
                await old.command("CLIENT", "PAUSE", 600_000, "WRITE")
                await servers.synced()
                await new.command("REPLICAOF", "NO", "ONE")
                proxy.lead_to(new.url)
                proxy.drop_commands()

            measured(await scene.suffer(fail_over))
            assert await scene.counted("subscriber_restarts_total") == 1
