"""How much one connection, one subject, one address may ask: token buckets, and who an address is behind proxies.

A bucket is one number: when it will be full again (the generic cell rate algorithm). It holds what comes in `BURST_S`,
one at least.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orbit.errors import OrbitError, RateLimited

BURST_S = 5.0
KEPT = 10_000
"""Buckets of one kind; beyond that the one that was used least lately is forgotten."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class RateSettings:
    """How many a second; 0: as many as they like."""

    connection_messages_s: float = 0.0
    subject_messages_s: float = 0.0
    address_messages_s: float = 0.0
    subject_starts_s: float = 0.0
    address_starts_s: float = 0.0


class Meter:
    """The buckets of one kind, by key."""

    def __init__(self, rate_s: float, kept: int = KEPT) -> None:
        self._cost_s = 1 / rate_s if rate_s > 0 else 0.0
        self._window_s = max(BURST_S, self._cost_s)
        self._kept = kept
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, key: str | None, now: float) -> float:
        """How long until one more is allowed; 0: now."""
        if not self._cost_s or key is None:
            return 0.0
        full_at = max(self._full_at.get(key, now), now) + self._cost_s
        return max(full_at - now - self._window_s, 0.0)

    def take(self, key: str | None, now: float) -> None:
        """One was allowed."""
        if not self._cost_s or key is None:
            return
        self._full_at[key] = max(self._full_at.pop(key, now), now) + self._cost_s
        if len(self._full_at) > self._kept:
            self._full_at.popitem(last=False)


class Rates:
    """All of one edge.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, settings: RateSettings | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings or RateSettings()
        self._clock = clock
        self._messages = (
            Meter(self.settings.connection_messages_s),
            Meter(self.settings.subject_messages_s),
            Meter(self.settings.address_messages_s),
        )
        self._starts = Meter(self.settings.subject_starts_s), Meter(self.settings.address_starts_s)

    def message(self, connection: str | None, subject: str | None, address: str | None) -> None:
        """Count a message. What isn't known isn't counted: a request has no connection, a stranger no subject.

        Raises:
            RateLimited: It is one too many, and isn't counted; says when it won't be.
        """
        self._count(self._messages, (connection, subject, address), "messages")

    def start(self, subject: str | None, address: str | None) -> None:
        """Count a start. Raises as `message`."""
        self._count(self._starts, (subject, address), "starts")

    def _count(self, meters: Sequence[Meter], keys: Sequence[str | None], what: str) -> None:
        now = self._clock()
        pairs = list(zip(meters, keys, strict=True))
        wait_s = max(meter.wait_s(key, now) for meter, key in pairs)
        if wait_s > 0:
            raise RateLimited(f"too many {what}", retry_after_ms=math.ceil(wait_s * 1000))
        for meter, key in pairs:
            meter.take(key, now)


# ---- addresses


class NoNetwork(OrbitError):
    """This is no network in CIDR notation; the text says which."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of `--trusted-proxies`; each text may hold several, with commas.

    Raises:
        NoNetwork: One of them is none.
    """
    found: list[Network] = []
    for text in (one.strip() for said in texts for one in said.split(",")):
        try:
            if text:
                found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise NoNetwork(f"--trusted-proxies {text}: it must be a network such as 10.0.0.0/8") from None
    return tuple(found)


def address_of(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """Who is counted: the last address on the way that isn't a trusted proxy's. Of IPv6, the network of 64 bits.

    Args:
        peer: The connection's other end; None where it has no address.
        forwarded: The `X-Forwarded-For` headers; believed only as far as trusted proxies wrote them.
    """
    address = _address(peer)
    hops = [hop for header in forwarded for hop in header.split(",")]
    while hops and address is not None and any(address in network for network in trusted):
        before = _address(hops.pop())
        if before is None:
            break
        address = before
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return None if address is None else str(address)


def _address(text: str | None) -> Address | None:
    bare = (text or "").strip().strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
