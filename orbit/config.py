"""Limits and defaults, in one place.

Each is an option of the command line and an environment variable `ORBIT_<NAME>`; the names and numbers are those of the
public protocol. Sizes are bytes, times carry their unit in the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1024 * 1024

DEFAULT_PARTITIONS = 256
"""How many partitions a deployment has, fixed at its first use."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one deployment accepts. Over a limit: `too_large`, `rate_limited` or `overloaded`."""

    data_bytes: int = MIB
    """One update, one message, one step's result, encoded as MessagePack."""
    frame_bytes: int = 2 * MIB
    """One WebSocket frame or HTTP body."""
    snapshot_bytes: int = 8 * MIB
    inbox_messages: int = 1_000
    """Unread messages of one transaction."""
    attaches: int = 1_000
    """Attaches on one connection."""
    sessions: int = 0
    """Sessions attached to one transaction at a time; 0: any number."""
    nesting: int = 100
    """How deep a value may be nested."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations that a deployment agrees on, in seconds."""

    lease_s: float = 10.0
    grace_s: float = 5.0
    """From a session's detach to its `on_disconnect`."""
    drain_s: float = 30.0
    session_retain_s: float = 86_400.0
    """How long a detached session is remembered."""
    retain_s: float = 86_400.0
    """How long an ended transaction is kept, where its State doesn't say."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a `run` that raised is tried again: `retries` times, after `first_s`, doubling to `max_s`, with jitter."""

    retries: int = 3
    first_s: float = 1.0
    max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it."""

    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)


KEEP_UPDATES = 10_000
"""How many updates a log keeps, where its State doesn't say."""

PARENT = "_ORBIT_PARENT"
"""The environment variable of a child process that names the parent's process id: it must not outlive that."""
