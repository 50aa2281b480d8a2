"""A primary and its replica, as two embedded servers; the replica can be stopped, so that it lags, and promoted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from orbit.store.embedded import EmbeddedServer


class Pair:
    """Attributes:
    primary / replica: The servers. Both end with the block that started them.
    """

    def __init__(self, primary: EmbeddedServer, replica: EmbeddedServer) -> None:
        self.primary = primary
        self.replica = replica

    def stop_replica(self) -> None:
        """From now on it takes nothing in."""
        self.replica.pause()

    def resume_replica(self) -> None:
        self.replica.resume()

    async def linked(self) -> None:
        """Return when the replica has all that the primary has."""
        async with Redis.from_url(self.primary.url) as redis, redis.client() as one:
            held = 0
            while not held:
                await one.execute_command("SET", "linked", "1")
                held = await one.execute_command("WAIT", 1, 1000)

    async def promote(self) -> str:
        """The primary is killed, and the replica takes its place with what it has: its URL."""
        self.primary.kill()
        self.resume_replica()
        async with Redis.from_url(self.replica.url) as redis:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
        return self.replica.url


@contextmanager
def pair() -> Iterator[Pair]:
    """Both; await `linked` before anything hangs on the replica."""
    config = {"appendonly": "no", "repl-diskless-sync-delay": "0", "repl-timeout": "3600"}
    with EmbeddedServer(tcp=True, config=config) as primary:
        follow = {**config, "replicaof": f"127.0.0.1 {primary.port}"}
        with EmbeddedServer(tcp=True, config=follow) as replica:
            both = Pair(primary, replica)
            try:
                yield both
            finally:
                both.resume_replica()
