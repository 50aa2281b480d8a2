"""One server behind a name, and another one behind the same name after a failover."""

from __future__ import annotations

import pytest

from orbit.errors import Unavailable
from orbit.store.address import connector
from orbit.store.embedded import ReplicatedServer
from orbit.store.link import Link
from orbit.verify.proxy import Proxy

KEY = "single-test"


async def test_a_server_that_became_a_replica_is_left() -> None:
    """Its connections live on, and refuse every write."""
    async with ReplicatedServer() as group, Proxy.before(group.url) as name:
        _, after = group.servers
        link = Link(connector(name.url, 5), 5)
        assert await link.write("INCR", KEY) == 1
        await group.synced()
        await group.promote(after)
        name.lead_to(after.url)
        with pytest.raises(Unavailable, match="READONLY"):
            await link.write("INCR", KEY)
        assert await link.write("INCR", KEY) == 2, "the first one wasn't done"
        assert await link.read("GET", KEY) == b"2"
        await link.close()
