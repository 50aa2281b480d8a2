"""A subscriber's probes: published to itself, so that a subscription that hears nothing more is found."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress

from orbit.errors import OrbitError
from orbit.store.lanes import Lanes
from orbit.store.probing import Pace, Probes
from orbit.store.store import Store

log = logging.getLogger("orbit.store")


class Prober:
    """Publishes probes for as long as anything is subscribed to.

    Args:
        wanted: What is subscribed to; the channels of the probes are put there, too.
        connected: Whether Redis has confirmed all that is subscribed to.
        on_deaf: Called when probes are published and not heard: the subscription is to be made anew.
    """

    def __init__(
        self,
        store: Store,
        wanted: Lanes,
        pace: Pace,
        *,
        connected: Callable[[], bool],
        on_deaf: Callable[[], None],
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._pace = pace
        self._connected = connected
        self._on_deaf = on_deaf
        self._name = secrets.token_hex(8)
        self._probes = Probes(pace)
        self._hurry = asyncio.Event()
        self._came = asyncio.Event()

    @property
    def delivers(self) -> bool:
        """Each node of Redis has delivered a probe lately."""
        return self._probes.delivers(self._now())

    async def heard_one(self) -> None:
        """Return when a probe has come back."""
        self._came.clear()
        await self._came.wait()

    def begin_anew(self) -> None:
        """The subscription is a new one: it proves itself by probes of its own, the first of them now."""
        self._probes.begin_anew()
        self._hurry.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._probe()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.probe_s):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _probe(self) -> None:
        """See whether the probes before came back, and publish the next."""
        if self._probes.deaf and self._connected():
            log.warning("the subscription has gone deaf: what is published isn't heard; subscribing anew")
            self._probes.begin_anew()
            self._on_deaf()
        partitions = self._store.probe_partitions() if len(self._wanted) > len(self._probes) else ()
        added, dropped = self._probes.keep(partitions, self._now())
        for partition in dropped:
            self._wanted.drop(self._channel(partition))
        for partition in added:
            self._wanted.add(self._channel(partition), self._handler(partition)).cancel()
        await asyncio.gather(*(self._publish(partition) for partition in partitions))

    async def _publish(self, partition: int) -> None:
        number = self._probes.next(partition)
        try:
            receivers = await self._store.probe(partition, self._name, str(number).encode())
        except OrbitError as error:
            log.debug("probing: %s", error)
            return
        if self._connected():
            self._probes.published(partition, number, receivers)

    def _handler(self, partition: int) -> Callable[[bytes], None]:
        def heard(payload: bytes) -> None:
            if self._probes.heard(partition, int(payload), self._now()):
                self._came.set()

        return heard

    def _channel(self, partition: int) -> str:
        return self._store.keys.probe_channel(partition, self._name)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
