"""Does what the plan says, to real processes and the ways between them; and undoes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from orbit.cli.verify.scene import DRAIN_S, Scene
from orbit.cli.verify.seats import Clocks, Seat
from orbit.errors import OrbitError
from orbit.store.embedded import EmbeddedServer
from orbit.verify.people import Person
from orbit.verify.plan import Injection
from orbit.verify.proxy import Proxy

SLACK_S = 5.0
"""By so much a drain may be late on a busy machine."""
_FULL_BYTES = 1_000_000
"""Less than a server holds that has anything in it."""

Doing = Callable[[Injection, random.Random], Awaitable[None]]


class Begun(Protocol):
    """Told when a fault takes effect, what it is done to, and the one client that it is about, if it is about one."""

    def __call__(self, injection: Injection, what: str, only: Person | None = None) -> None: ...


class NothingLeft(Exception):
    """Everything that this could be done to is disturbed already."""


class Troubles:
    """The faults, each a method."""

    def __init__(self, scene: Scene, people: Sequence[Person], begun: Begun) -> None:
        self.troubles: list[str] = []
        self.skipped: list[str] = []
        self._scene, self._people, self._begun = scene, people, begun
        self._redis_busy = False
        self._busy: set[int] = set()
        self._doings: dict[str, Doing] = {
            "worker-kill": self._kill, "worker-pause": self._pause, "worker-drain": self._drain,
            "edge-kill": self._kill, "edge-pause": self._pause, "edge-drain": self._drain,
            "redis-restart": self._redis_restart, "redis-pause": self._redis_pause, "redis-full": self._redis_full,
            "failover": self._failover, "partition": self._partition, "latency": self._latency, "cut": self._cut,
            "pubsub-drop": self._pubsub_drop, "slow-client": self._slow_client, "clock-skew": self._clock_skew,
        }  # fmt: skip

    async def do(self, injection: Injection) -> None:
        """One fault, from its beginning to its end. What can't be undone is noted."""
        try:
            await self._doings[injection.fault](injection, random.Random(injection.draw))
        except NothingLeft:
            self.skipped.append(injection.fault)
        except (OrbitError, OSError) as error:
            self.troubles.append(f"{injection.fault}: {error}")

    async def heal(self) -> None:
        """All is well again: every process runs, every way is open, Redis answers and has room."""
        scene = self._scene
        for proxy in (*scene.links, *scene.fronts):
            proxy.heal()
        for seat in scene.seats:
            if not seat.alive:
                await seat.start()

    # ---- processes

    @asynccontextmanager
    async def _one(self, seats: Sequence[Seat], rng: random.Random) -> Any:
        """One that nothing is being done to, for as long as the block lasts."""
        free = [seat for seat in seats if not seat.busy]
        if not free:
            raise NothingLeft
        seat = rng.choice(free)
        seat.busy = True
        try:
            yield seat
        finally:
            seat.busy = False

    def _seats(self, injection: Injection) -> list[Seat]:
        return self._scene.workers if injection.fault.startswith("worker") else self._scene.edges

    async def _kill(self, injection: Injection, rng: random.Random) -> None:
        async with self._one(self._seats(injection), rng) as seat:
            self._begun(injection, f"{seat.name}, pid {seat.pid}")
            await seat.kill()
            await asyncio.sleep(injection.lasting_s)
            await seat.start()

    async def _pause(self, injection: Injection, rng: random.Random) -> None:
        async with self._one(self._seats(injection), rng) as seat:
            self._begun(injection, f"{seat.name}, for {injection.lasting_s:.1f} s")
            seat.pause()
            await asyncio.sleep(injection.lasting_s)
            seat.resume()

    async def _drain(self, injection: Injection, rng: random.Random) -> None:
        async with self._one(self._seats(injection), rng) as seat:
            await seat.replace(DRAIN_S + SLACK_S, lambda: self._begun(injection, seat.name))

    async def _clock_skew(self, injection: Injection, rng: random.Random) -> None:
        async with self._one(self._scene.seats, rng) as seat:
            clocks = Clocks(rng.choice((-1, 1)) * rng.uniform(10, 90_000), rng.choice((0.4, 0.7, 1.5, 3.0)))
            self._begun(injection, f"{seat.name}, off by {clocks.offset_s:.0f} s, at {clocks.rate:g} times the pace")
            await seat.kill()
            await seat.start(clocks)
            await asyncio.sleep(injection.lasting_s)
            await seat.kill()
            await seat.start()

    # ---- Redis

    @asynccontextmanager
    async def _redis(self) -> Any:
        server = self._scene.primary
        if server is None or self._redis_busy:
            raise NothingLeft
        self._redis_busy = True
        try:
            yield server
        finally:
            self._redis_busy = False

    async def _redis_restart(self, injection: Injection, rng: random.Random) -> None:
        async with self._redis() as server:
            rude = rng.random() < 0.5
            self._begun(injection, "SIGKILL" if rude else "in good order")
            if not rude:
                await server.restart()
                return
            server.kill()
            await asyncio.sleep(injection.lasting_s)
            await server.start()

    async def _redis_pause(self, injection: Injection, rng: random.Random) -> None:
        async with self._redis() as server:
            self._begun(injection, f"for {injection.lasting_s:.1f} s")
            server.pause()
            await asyncio.sleep(injection.lasting_s)
            server.resume()

    async def _redis_full(self, injection: Injection, rng: random.Random) -> None:
        async with self._redis() as server:
            self._begun(injection, f"for {injection.lasting_s:.1f} s")
            await server.command("CONFIG", "SET", "maxmemory", _FULL_BYTES)
            await asyncio.sleep(injection.lasting_s)
            await server.command("CONFIG", "SET", "maxmemory", 0)

    async def _failover(self, injection: Injection, rng: random.Random) -> None:
        async with self._redis() as primary:
            group = self._scene.group
            assert group is not None
            replica: EmbeddedServer = next(server for server in group.servers if server is not primary)
            await group.synced()
            await group.cut_off(replica)
            await asyncio.sleep(injection.lasting_s)  # what is written now will be lost
            self._begun(injection, f"{injection.lasting_s:.1f} s of writes are lost")
            for link in self._scene.links:
                link.refusing = True
                link.drop_all()
            promoted = asyncio.create_task(group.promote(replica))
            await asyncio.sleep(rng.uniform(0.05, 0.5))
            self._scene.lead_to(replica)
            for link in self._scene.links:
                link.refusing = False
            await promoted

    # ---- the ways

    @asynccontextmanager
    async def _way(self, proxies: Sequence[tuple[str, Proxy]], rng: random.Random) -> Any:
        free = [way for way in proxies if id(way[1]) not in self._busy]
        if not free:
            raise NothingLeft
        name, proxy = rng.choice(free)
        self._busy.add(id(proxy))
        try:
            yield name, proxy
        finally:
            self._busy.discard(id(proxy))

    def _to_redis(self) -> list[tuple[str, Proxy]]:
        return [(f"{seat.name} to Redis", seat.link) for seat in self._scene.seats if seat.link is not None]

    def _all_ways(self) -> list[tuple[str, Proxy]]:
        fronts = [(f"clients to {seat.name}", seat.front) for seat in self._scene.edges if seat.front is not None]
        return [*self._to_redis(), *fronts]

    async def _partition(self, injection: Injection, rng: random.Random) -> None:
        async with self._way(self._all_ways(), rng) as (name, proxy):
            how = rng.choice(("silent", "one way up", "one way down", "refused"))
            self._begun(injection, f"{name}: {how}, for {injection.lasting_s:.1f} s")
            if how == "refused":
                proxy.refusing = True
                proxy.drop_all()
            else:
                proxy.hold(up=how != "one way up", down=how != "one way down")
            await asyncio.sleep(injection.lasting_s)
            proxy.refusing = False
            if rng.random() < 0.5:
                proxy.drop_all()  # what was held back never arrives
            proxy.release()

    async def _latency(self, injection: Injection, rng: random.Random) -> None:
        async with self._way(self._all_ways(), rng) as (name, proxy):
            proxy.delay_up_s, proxy.delay_down_s = rng.uniform(0.01, 0.2), rng.uniform(0.01, 0.2)
            there, back = round(proxy.delay_up_s * 1000), round(proxy.delay_down_s * 1000)
            self._begun(injection, f"{name}: {there} ms there, {back} ms back, for {injection.lasting_s:.1f} s")
            await asyncio.sleep(injection.lasting_s)
            proxy.delay_up_s = proxy.delay_down_s = 0.0

    async def _cut(self, injection: Injection, rng: random.Random) -> None:
        name, proxy = rng.choice(self._to_redis())
        self._begun(injection, name)
        proxy.cut_after(b"EVALSHA")

    async def _pubsub_drop(self, injection: Injection, rng: random.Random) -> None:
        async with self._way(self._to_redis(), rng) as (name, proxy):
            self._begun(injection, f"{name}, for {injection.lasting_s:.1f} s")
            proxy.loses = lambda: rng.random() < 0.5
            await asyncio.sleep(injection.lasting_s)
            proxy.loses = bool

    # ---- clients

    async def _slow_client(self, injection: Injection, rng: random.Random) -> None:
        readers = [person for person in self._people if not person.away]
        if not readers:
            raise NothingLeft
        person = rng.choice(readers)
        place = rng.choice([place for place in person.places.values() if not place.simple])
        speaker = rng.choice([one for one in self._people if place.tx in one.places])
        person.stall(injection.lasting_s)
        self._begun(injection, f"{person.name} reads nothing for {injection.lasting_s:.1f} s", person)
        for _ in range(3):
            speaker.say(place.tx, "burst")
        await asyncio.sleep(injection.lasting_s)


