"""The store: every verb is one atomic script or one atomic read, on one partition.

Only this package imports redis. Verbs raise `Unavailable` where certainly nothing was written, `Overloaded` where Redis
is full and nothing was written, and `OutcomeUnknown` where a write was sent and its answer never came (also when the
awaiting task is cancelled, the write may be done).
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable

from orbit.errors import OutcomeUnknown, Overloaded, Unavailable
from orbit.protocol.ids import PublicName, Session, TxId
from orbit.store import types as t
from orbit.store.address import Connect, parse, shown
from orbit.store.checks import Deployment, change_durability, check, record_again
from orbit.store.commits import Commits
from orbit.store.durability import Durability
from orbit.store.edges import Edges
from orbit.store.erasing import Erasing
from orbit.store.grants import Grants
from orbit.store.keys import Keys
from orbit.store.limits import Permits
from orbit.store.link import Link
from orbit.store.listing import Listing
from orbit.store.logs import Logs
from orbit.store.outboxes import Outboxes
from orbit.store.registry import Registry
from orbit.store.schedules import Schedules
from orbit.store.sessions import Sessions
from orbit.store.topology import Topology, topology_at
from orbit.store.transactions import Transactions

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0


class Store(
    Transactions, Commits, Sessions, Logs, Listing, Grants, Outboxes, Permits, Schedules, Registry, Edges, Erasing
):
    """One deployment in one Redis. Its verbs stand in the classes that it is made of."""

    partitions: int
    durability: Durability

    def __init__(self, link: Link, settings: t.StoreSettings, deployment: Deployment) -> None:
        self.settings = settings
        self.partitions = deployment.partitions
        self.durability = deployment.durability
        self._link = link
        self._keys = Keys(settings.namespace, deployment.partitions)
        self._secret = deployment.secret

    @classmethod
    async def open(
        cls, url: str, settings: t.StoreSettings, *, wait: bool = False, say: Callable[[str], None] | None = None,
        keep: bool = True,
    ) -> Store:  # fmt: skip
        """Connect and check: version, scripts and sharded pub/sub allowed, partitions (recorded at first use).

        Args:
            url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`: see address.py.
            wait: Redis isn't there, breaks off or is full: wait with backoff, and `say` so once, instead of raising.
            keep: Acknowledgements wait as the deployment's durability says; else this store's never do.

        Raises:
            StoreUnusable: One line that says what to do.
            Unavailable: Redis isn't there.
        """
        address = parse(url)
        waited_s = 0.0
        while True:
            try:
                return await cls.over(topology_at(address, settings.timeout_s), settings, keep=keep)
            except (Unavailable, Overloaded, OutcomeUnknown) as error:  # the check does nothing that twice is too often
                if not wait and isinstance(error, Unavailable):
                    raise Unavailable(f"no Redis at {shown(url)}: {error.message}") from error
                if not wait:
                    raise
                if say is not None and not waited_s:
                    say(f"waiting for Redis at {shown(url)}: {error}")
            waited_s = min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S, 2 * waited_s))
            await asyncio.sleep(waited_s)

    @classmethod
    async def over(cls, to: Connect | Topology, settings: t.StoreSettings, *, keep: bool = True) -> Store:
        """As `open`, over these connections; they are closed with it, also where this raises."""
        link = Link(to, settings.timeout_s)
        try:
            return cls(link, settings, await check(link, settings, keep=keep))
        except BaseException:
            await link.close()
            raise

    async def close(self) -> None:
        """Close the connections. What is under way is answered as if they had broken."""
        await self._link.close()

    async def record_again(self) -> None:
        """After a gap: see that the deployment is still recorded as it was, and record it where Redis lost that.

        Raises:
            StoreUnusable: Another process recorded it anew meanwhile: start every process again.
        """
        await record_again(self._link, self._keys, Deployment(self.partitions, self._secret, self.durability))

    async def change_durability(self, wanted: Durability) -> None:
        """Record another durability. Processes that run keep to what was recorded when they started.

        Raises:
            StoreUnusable: This server can't be asked for it.
            Unavailable: It can't be had now; nothing was changed.
        """
        await change_durability(self._link, self._keys, wanted)
        self.durability = wanted

    async def ping(self) -> None:
        """Return when Redis has answered: each server of it.

        Raises:
            Unavailable: It didn't.
        """
        for key in await self._link.one_each(self._keys.probe):
            await self._link.read("PING", at=key)

    def probe_partitions(self) -> tuple[int, ...]:
        """Partitions that stand for all nodes of Redis, one for each as far as is known now."""
        if not self._link.topology.sharded:
            return (0,)
        found: dict[object, int] = {}
        for partition in range(self.partitions):
            found.setdefault(self._link.topology.known(self._keys.partition(partition)), partition)
        return tuple(partition for node, partition in found.items() if node is not None)

    async def probe(self, partition: int, subscriber: str, payload: bytes) -> int:
        """Publish on a subscriber's probe channel in a partition; to how many Redis delivered it.

        Raises:
            Unavailable, OutcomeUnknown: Redis didn't confirm it.
        """
        return int(await self._link.write("SPUBLISH", self._keys.probe_channel(partition, subscriber), payload))

    async def now_ms(self, name: str) -> int:
        """The clock that a schedule's times, or a limit's, are judged by, in ms since 1970: that of its server."""
        return await self._clock_ms(self._keys.partition_named(name))

    def partition_of(self, tx: TxId) -> int:
        return self._keys.partition_of(tx)

    def public_name(self, tx: TxId, session: Session) -> PublicName:
        """A session's public name in a transaction: 22 characters that don't tell its secret."""
        return PublicName(self._derived("session", tx, session)[:22])

    def derived_id(self, *parts: str) -> TxId:
        """An id derived from the deployment's secret and `parts` (a keyed start: subject, key)."""
        return TxId(self._derived("id", *parts)[:32])

    def _derived(self, *parts: str) -> str:
        # Each part's length in front, so that no two lists of parts hash the same text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return urlsafe_b64encode(hashlib.blake2b(text.encode(), key=self._secret, digest_size=24).digest()).decode()

    @property
    def keys(self) -> Keys:
        """The names of its keys and channels, for the subscriber."""
        return self._keys

    @property
    def link(self) -> Link:
        """The way to Redis, for the subscriber."""
        return self._link
