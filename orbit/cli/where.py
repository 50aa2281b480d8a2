"""Where a command is told to find its deployment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """What the options say: `redis` or `url`, or neither."""

    redis: str | None
    url: str | None
    namespace: str
    partitions: int | None
