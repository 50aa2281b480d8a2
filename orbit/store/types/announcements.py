"""What is heard on wake channels and workers' own."""

from __future__ import annotations

from dataclasses import dataclass

from orbit.protocol.ids import TxId
from orbit.store.types.grants import Spec


@dataclass(frozen=True, slots=True)
class ReadyWake:
    """On a partition's wake channel: something became ready."""

    partition: int
    spec: Spec


@dataclass(frozen=True, slots=True)
class DueWake:
    """On a partition's wake channel: `due` is needed in `in_ms`."""

    partition: int
    in_ms: int


@dataclass(frozen=True, slots=True)
class OwnerNudge:
    """On a worker's channel: look at this transaction (`message`, `change`, `cancel`)."""

    tx: TxId
    why: str
