"""Two servers that take turns: one goes on, then all connections find the other, with what the first held before.

So a failover to a replica that had been cut off looks to everyone: other connections, the newest writes gone, and
nothing that was sent to the old one ever reaches the new one.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from orbit.store.embedded import EmbeddedServer
from orbit.verify.proxy import Proxy

_ALL = """
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  all[#all + 1] = { key, math.max(0, redis.call('PTTL', key)), redis.call('DUMP', key) }
end
return all
"""


class Past:
    """Attributes:
    now / other: The server that clients reach through `proxy`, and the one that they will.
    """

    def __init__(self, now: EmbeddedServer, other: EmbeddedServer, proxy: Proxy) -> None:
        self.now = now
        self.other = other
        self.proxy = proxy
        self._then: list[Any] = []

    async def remember(self) -> None:
        """What is written from now on will be lost."""
        async with Redis.from_url(self.now.url) as redis:
            self._then = await redis.eval(_ALL, 0)

    async def go_back(self) -> None:
        """Fail over to what was remembered."""
        async with Redis.from_url(self.other.url) as redis, redis.pipeline(transaction=True) as all_at_once:
            all_at_once.flushall()
            for key, ttl_ms, dump in self._then:
                all_at_once.restore(key, ttl_ms, dump)
            await all_at_once.execute()
        self.now, self.other = self.other, self.now
        self.proxy.lead_to(self.now.url)
        self.proxy.drop_all()

