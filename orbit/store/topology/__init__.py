"""Which server holds what, and where a command goes that another is to have: one server, Sentinels, a cluster."""

from orbit.store.address import Address, Server
from orbit.store.topology.cluster import Cluster
from orbit.store.topology.node import Node
from orbit.store.topology.patience import Patience
from orbit.store.topology.sentinel import Watched
from orbit.store.topology.topology import Single, Topology

__all__ = ["Cluster", "Node", "Patience", "Single", "Topology", "Watched", "topology_at"]


def topology_at(address: Address, timeout_s: float) -> Topology:
    """The topology of what is at that address. Connects to nothing yet."""
    match address.kind:
        case "cluster":
            return Cluster(address, timeout_s)
        case "sentinel":
            return Watched(address, timeout_s)
        case "server" if address.hosts:
            server: Server = address.hosts[0]
            return Single(address.to(server, timeout_s), timeout_s, str(server))
    return Single(address.to_socket(timeout_s), timeout_s, address.path)
