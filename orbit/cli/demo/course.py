"""The course of the demonstration: start, kill, kill, compare."""

from __future__ import annotations

import asyncio
from time import monotonic

from orbit.cli.children import Child
from orbit.cli.demo.checks import faults
from orbit.cli.demo.report import Kill, print_report
from orbit.cli.demo.scene import Scene
from orbit.cli.demo.stage import Stage, stage_for
from orbit.cli.demo.watching import Watcher, watchers
from orbit.cli.failures import DONE, INTERRUPTED, CommandError
from orbit.cli.output import stdout
from orbit.client import Client

AT_MOST_S = 120.0
"""A demonstration that takes longer has failed."""


async def run_demo(size_bytes: int, *, keep: bool, stop: asyncio.Event) -> int:
    """Run it; returns the status to exit with: 0 only if all is well."""
    course = asyncio.create_task(_demonstrate(size_bytes, keep=keep, stop=stop))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([course, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if keep or course.done():  # kept, it leaves by itself when it is told to stop
        return await course
    course.cancel()
    await asyncio.gather(course, return_exceptions=True)
    return INTERRUPTED


async def _demonstrate(size_bytes: int, *, keep: bool, stop: asyncio.Event) -> int:
    console = stdout()
    console.print(
        f"A job downloads {size_bytes / 1e6:g} MB from a local file server; two clients watch it on two edges."
    )
    async with Scene(size_bytes) as scene:
        play = Play(scene)
        try:
            async with asyncio.timeout(AT_MOST_S):
                await play.run()
        except TimeoutError:
            raise CommandError(f"the demonstration didn't end in {AT_MOST_S:g} s") from None
        clients = {watcher.name: watcher.seen for watcher in play.watchers}
        print_report(console, play.kills, clients, scene.job, scene.edge_name)
        found = [fault for name, seen in clients.items() for fault in faults(name, seen, scene.job)]
        if found:
            raise CommandError("not as it should be: " + "; ".join(found))
        console.print(
            f"All is well: every update once, in order, and the file's hash is right ({scene.job.digest[:8]})."
        )
        if keep:
            console.print(f"\nStill running: {scene.live_edge} with {scene.redis}\nLook with\n")
            console.print(f"  orbit ls --url {scene.live_edge}\n  orbit show {play.tx} --url {scene.live_edge}")
            console.print(f"  orbit tail {play.tx} --url {scene.live_edge}\n\nCtrl-C ends it.")
            await stop.wait()
    return DONE


class Play:
    """What happens to whom, and when."""

    def __init__(self, scene: Scene) -> None:
        self.tx = ""
        self.kills: list[Kill] = []
        self.watchers: list[Watcher] = []
        self._scene = scene
        self._began_s = monotonic()

    async def run(self) -> None:
        """Start the job, kill its worker half way and an edge later, and wait until both clients saw the end."""
        scene = self._scene
        total = len(scene.job.chunks)
        with stage_for(stdout(), self._began_s, scene.edge_name) as stage:
            async with Client(scene.urls) as client:
                self.tx = await client.start("Download", scene.input)
            stage.say(f"started {self.tx}: {total} chunks, an update for each")
            self.watchers = watchers(scene.urls, self._began_s, stage.refresh)
            stage.follow(self.watchers, total)
            async with asyncio.TaskGroup() as group:
                for watcher in self.watchers:
                    group.create_task(watcher.watch(self.tx))
                group.create_task(self._kill_both(stage, total))

    async def _kill_both(self, stage: Stage, total: int) -> None:
        first = self.watchers[0]
        await first.until(total // 2)
        owner = await self._scene.owner_of(self.tx)
        await self._kill(stage, owner, f"{owner.name} (ran the job)")
        await first.until(total * 3 // 4)
        edge = self._scene.edges[0]
        await self._kill(stage, edge, f"{edge.name} (served {first.name})")

    async def _kill(self, stage: Stage, child: Child, what: str) -> None:
        chunk, at_s = self.watchers[0].chunk, monotonic() - self._began_s
        pid = await self._scene.kill(child)
        self.kills.append(Kill(what, pid, at_s, chunk))
        stage.say(f"KILLED {what}, pid {pid}")
