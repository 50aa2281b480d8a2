"""Whether the subscription hears what is published, judged by probes that come back or don't.

Each node of Redis has a channel of its own for probes, so that none can fall silent unseen. Plain bookkeeping: time
comes in as an argument, and the driver does the sending.

A channel is deaf when Redis has confirmed so many probes in a row that `deaf_s` went by and none was heard, or when
Redis said twice that nobody listens there (after a failover the subscription may live on at a server that is alone).
Both are counted in probes, not in time: a process that was stopped for a while isn't deaf.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a subscriber looks whether it still hears, in seconds."""

    ping_s: float = 2.0
    """A link that was quiet for so long is asked for a sign of life; without one for as long again it is given up."""
    probe_s: float = 1.0
    """Between two probes of one channel."""
    deaf_s: float = 3.0
    """So long without a probe, and the subscription is of no use."""


NOBODY = 2
"""Probes in a row that Redis delivered to nobody; one may have met a subscription on its way."""


@dataclass(slots=True)
class _Channel:
    """`unheard`: confirmed by Redis since the last that was heard. `nobody`: of these, delivered to nobody, in a row.

    `floor`: probes up to this one say nothing any more.
    """

    heard_at: float | None
    sent: int = 0
    heard: int = 0
    floor: int = 0
    unheard: int = 0
    nobody: int = 0


class Probes:
    """The probes of one subscription."""

    def __init__(self, pace: Pace) -> None:
        self._deaf_s = pace.deaf_s
        self._most = max(NOBODY, round(pace.deaf_s / pace.probe_s))
        self._channels: dict[int, _Channel] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def keep(self, partitions: Iterable[int], now: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Probe in these partitions: (those that are new, those that are no more).

        One that comes to others, all of which deliver, has as long as they to prove itself.
        """
        wanted = dict.fromkeys(partitions)
        heard_at = now if self.delivers(now) else None
        added = tuple(partition for partition in wanted if partition not in self._channels)
        dropped = tuple(partition for partition in self._channels if partition not in wanted)
        for partition in dropped:
            del self._channels[partition]
        for partition in added:
            self._channels[partition] = _Channel(heard_at)
        return added, dropped

    def next(self, partition: int) -> int:
        """The number of the next probe there."""
        channel = self._channels[partition]
        channel.sent += 1
        return channel.sent

    def published(self, partition: int, number: int, receivers: int) -> None:
        """Redis has confirmed that it delivered a probe to so many."""
        channel = self._channels.get(partition)
        if channel is None or number <= max(channel.heard, channel.floor):
            return
        channel.unheard += 1
        channel.nobody = 0 if receivers else channel.nobody + 1

    def heard(self, partition: int, number: int, now: float) -> bool:
        """A probe came back; whether it is the newest so far."""
        channel = self._channels.get(partition)
        if channel is None or number <= max(channel.heard, channel.floor):
            return False
        channel.heard, channel.heard_at = number, now
        channel.unheard = channel.nobody = 0
        return True

    def begin_anew(self) -> None:
        """The subscription is another one: what the one before heard says nothing of it."""
        for channel in self._channels.values():
            channel.heard_at = None
            channel.floor = channel.sent
            channel.unheard = channel.nobody = 0

    def delivers(self, now: float) -> bool:
        """Every channel has delivered a probe lately."""
        return bool(self._channels) and all(
            channel.heard_at is not None and now - channel.heard_at < self._deaf_s and not channel.nobody
            for channel in self._channels.values()
        )

    @property
    def deaf(self) -> bool:
        """On some channel nothing is heard of what is published."""
        return any(
            channel.unheard >= self._most or channel.nobody >= NOBODY for channel in self._channels.values()
        )
