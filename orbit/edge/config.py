"""What an edge process is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from orbit.config import Limits, Timing
from orbit.edge.admission import Capacity
from orbit.edge.rates import RateSettings
from orbit.store.durability import Durability
from orbit.store.probing import Pace
from orbit.store.types import StoreSettings

PAGE_BYTES = 64 * 1024
"""How much of a log is read for one follower at a time."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """How often an edge looks after what nobody asked for, in seconds. Tests make it quick."""

    probe_s: float = 1.0
    """Between two probes that the edge publishes to itself; deaf after `deaf_s` without one."""
    deaf_s: float = 3.0
    beat_s: float = 1.0
    dead_s: float = 5.0
    """An edge that didn't beat for so long is dead: its sessions are detached by another."""
    sweep_s: float = 1.5
    recent_s: float = 2.0
    """Between two looks at what was committed lately, for what pub/sub lost."""
    over_s: float = 30.0
    """Between two looks whether what has ended and is still watched was removed."""
    linger_s: float = 1.0
    """How long a subscription is kept after its last follower left."""
    advance_s: float = 0.25
    """How long a follower's cursor may lag behind entries that aren't for it."""
    heartbeat_s: float = 15.0
    """Between two signs of life of a quiet stream of server-sent events."""
    retry_s: float = 1.0
    """Before what Redis didn't answer is asked again."""
    ping_s: float = 20.0
    silence_s: float = 90.0
    """A client that said nothing for so long, not even to pings, is gone."""
    patience_s: float = 30.0
    """For so long may what a client in plain mode said wait to be stored; then it is sent away."""
    keys_s: float = 2.0
    """Between two looks whether a key was taken out of the file."""
    head_s: float = 10.0
    """For so long may a connection take to say what it wants."""
    stall_s: float = 300.0
    """A client that took nothing of what waits for it for so long is gone."""

    @property
    def pace(self) -> Pace:
        return Pace(probe_s=self.probe_s, deaf_s=self.deaf_s)


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """One edge process.

    Attributes:
        port: 0 takes a free one; `say` names it.
        insecure: Listen on addresses that others can reach, although no tokens are in force.
        token_keys: The file with the keys that tokens are judged by; None: no tokens are in force.
        audience: What a token's `aud` must name; None: anything.
        origins: The origins of browsers' pages that are let in, beside the edge's own; `*`: all.
        rates: How much one connection, subject or address may ask.
        capacity: What it takes on before it turns away who comes.
        trusted_proxies: Networks whose `X-Forwarded-For` is believed, in CIDR notation.
        say: Is told the lines that an operator should see, `orbit edge ready <url>` among them.
        stop: Set: the edge drains and `run_edge` returns, within `timing.drain_s`.
    """

    redis: str
    host: str = "127.0.0.1"
    port: int = 8000
    namespace: str = "orbit"
    partitions: int | None = None
    durability: Durability | None = None
    insecure: bool = False
    token_keys: str | None = None
    audience: str | None = None
    origins: tuple[str, ...] = ()
    rates: RateSettings = field(default_factory=RateSettings)
    capacity: Capacity = field(default_factory=Capacity)
    trusted_proxies: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    pulse: Pulse = field(default_factory=Pulse)
    say: Callable[[str], None] = print
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def store_settings(self) -> StoreSettings:
        return StoreSettings(
            namespace=self.namespace,
            partitions=self.partitions,
            durability=self.durability,
            inbox_messages=self.limits.inbox_messages,
            sessions=self.limits.sessions,
            session_retain_s=self.timing.session_retain_s,
            grace_s=self.timing.grace_s,
            max_page_bytes=PAGE_BYTES,
        )
