"""The settings of a store."""

from __future__ import annotations

from dataclasses import dataclass

from orbit.store.durability import Durability


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the scripts enforce. `namespace` begins every key."""

    namespace: str = "orbit"
    partitions: int | None = None
    """Recorded at a deployment's first use (None: 256, or whatever is recorded); checked afterwards."""
    durability: Durability | None = None
    """As `partitions`; None: `memory`, or whatever is recorded."""
    inbox_messages: int = 1_000
    sessions: int = 0
    """Attached to one transaction at a time; 0: any number."""
    session_retain_s: float = 86_400.0
    grace_s: float = 5.0
    snapshots_kept: int = 3
    timeout_s: float = 5.0
    """How long a command may take before its outcome is unknown."""
    max_page_bytes: int = 4 * 1024 * 1024
