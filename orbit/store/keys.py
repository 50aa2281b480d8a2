"""Every key and channel of a deployment. What the scripts add to these is in the head of each script.

A transaction's keys carry the hash tag of its partition, so that one script can touch them all, on a cluster too:

    <ns>:{<tag>}:t:<id>   a transaction; suffixes :log :snap :names :inbox :sess :changes :outbox :conn :seen :keys
                          :timers :view, channel :live
    <ns>:{<tag>}:p        a partition; suffixes :ready:<queue>:<state>:<version> :due :index :recent :places:<edge>
                          :claims:<worker>:<request> :schedules :fires :limit:<name> :held:<name> :waiting:<name>,
                          channels :wake :w:<worker> :probe:<subscriber>
    <ns>:{<tag>}:mark     written in front of a wait for durability
    <ns>:{<tag>}:guard    a key that never exists: see docs/decisions/a-guard-key-in-clusters.md
    <ns>:deployment :states :workers :edges, and the channel <ns>:e:<edge>
"""

from __future__ import annotations

import re
from binascii import crc32, crc_hqx
from functools import cached_property, lru_cache

from orbit.errors import StoreUnusable
from orbit.protocol.ids import TxId
from orbit.store.types import Spec

SLOTS = 16_384
"""A cluster's hash slots."""
MAX_PARTITIONS = 4_096
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def slot_of(tag: str) -> int:
    """The cluster slot of a hash tag (CRC16-XMODEM, as the cluster specification has it)."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def slot_of_key(key: str) -> int:
    """The cluster slot of a key: that of its hash tag, where it has one."""
    tag, closed, _ = key.partition("{")[2].partition("}")
    return slot_of(tag if closed and tag else key)


def guard_of(key: str) -> str | None:
    """The guard of the partition that `key` lies in; None outside the partitions."""
    before, closed, _ = key.partition("}:")
    return f"{before}}}:guard" if closed else None


@lru_cache(maxsize=8)
def partition_tags(partitions: int) -> tuple[str, ...]:
    """A short text for each partition, whose slot lies in the middle half of the partition's share of all slots.

    So the partitions lie evenly over the nodes of a cluster, however many there are.
    """
    found: dict[int, str] = {}
    candidate = 0
    while len(found) < partitions:
        text = f"{candidate:x}"
        partition, offset = divmod(slot_of(text) * partitions, SLOTS)
        if SLOTS // 4 <= offset <= SLOTS * 3 // 4:
            found.setdefault(partition, text)
        candidate += 1
    return tuple(found[partition] for partition in range(partitions))


def partition_of(tx: TxId, partitions: int) -> int:
    """The partition that holds a transaction, for ever."""
    return crc32(tx.encode()) % partitions


def mark(key: str) -> tuple[str, ...]:
    """A small write that the server of this key takes: a key of its own beside it, or a field where it has no tag."""
    prefix, brace, rest = key.partition("{")
    if not brace:
        return ("HSET", key, "mark", "1")
    return ("SET", f"{prefix}{{{rest.partition('}')[0]}}}:mark", "1")


class Registers:
    """The keys of a deployment that need no partition."""

    def __init__(self, namespace: str) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise StoreUnusable(f"a namespace is 1 to 64 of A-Z a-z 0-9 _ . -, not {namespace!r}")
        self.namespace = namespace
        self.deployment = f"{namespace}:deployment"
        self.states = f"{namespace}:states"
        self.workers = f"{namespace}:workers"
        self.edges = f"{namespace}:edges"

    def edge_channel(self, edge: str) -> str:
        return f"{self.namespace}:e:{edge}"

    @property
    def everything(self) -> str:
        """A pattern that fits every key of the deployment and no other (a namespace holds none of its signs)."""
        return f"{self.namespace}:*"

    def probe(self, n: int) -> str:
        """Keys for the checks at start-up, spread over the slots; their suffixes keep to theirs."""
        return f"{self.namespace}:{{probe{n or ''}}}:p"


class Keys(Registers):
    """The keys of a deployment of so many partitions."""

    def __init__(self, namespace: str, partitions: int) -> None:
        super().__init__(namespace)
        self.partitions = partitions

    @cached_property
    def _prefixes(self) -> tuple[str, ...]:
        return tuple(f"{self.namespace}:{{{tag}}}:" for tag in partition_tags(self.partitions))

    def partition_of(self, tx: TxId) -> int:
        return partition_of(tx, self.partitions)

    def partition_named(self, name: str) -> int:
        """The partition of what isn't a transaction: a limit, a schedule."""
        return crc32(name.encode()) % self.partitions

    def transaction(self, tx: TxId) -> str:
        return f"{self._prefixes[self.partition_of(tx)]}t:{tx}"

    def both(self, tx: TxId) -> tuple[str, str]:
        """A transaction's key and its partition's."""
        prefix = self._prefixes[self.partition_of(tx)]
        return f"{prefix}t:{tx}", f"{prefix}p"

    def partition(self, partition: int) -> str:
        return f"{self._prefixes[partition]}p"

    def whole(self, partition: int) -> tuple[str, str]:
        """A partition's key and the prefix of its transactions' keys."""
        prefix = self._prefixes[partition]
        return f"{prefix}p", f"{prefix}t"

    def places(self, partition: int, edge: str) -> str:
        return f"{self._prefixes[partition]}p:places:{edge}"

    def ready(self, partition: int, spec: Spec) -> str:
        return f"{self._prefixes[partition]}p:ready:{spec.queue}:{spec.state}:{spec.version}"

    def live_channel(self, tx: TxId) -> str:
        return f"{self.transaction(tx)}:live"

    def wake_channel(self, partition: int) -> str:
        return f"{self._prefixes[partition]}p:wake"

    def worker_channel(self, partition: int, worker: str) -> str:
        return f"{self._prefixes[partition]}p:w:{worker}"

    def probe_channel(self, partition: int, subscriber: str) -> str:
        return f"{self._prefixes[partition]}p:probe:{subscriber}"
