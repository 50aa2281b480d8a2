"""What is shown of transactions, States and workers."""

from __future__ import annotations

from dataclasses import dataclass

from orbit.protocol.cursors import Cursor
from orbit.protocol.entries import Failure
from orbit.protocol.ids import Epoch, TxId
from orbit.store.types.grants import Spec
from orbit.store.types.refusals import Status


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as listings show it. Times are milliseconds since 1970 by the server's clock.

    `result` is packed. `trace` and `cancel_reason` are for operators.
    """

    tx: TxId
    state: str
    version: int
    queue: str
    status: Status
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    head: Cursor
    number: int
    epoch: Epoch
    owner: str
    attempts: int
    crashes: int
    result: bytes | None
    error: Failure | None
    trace: str | None
    cancel_reason: str | None
    waits: str | None = None
    """The limit that it waits for."""
    parent: TxId | None = None
    parent_key: str | None = None
    """Under which key its parent knows it."""


@dataclass(frozen=True, slots=True)
class ListPage:
    transactions: tuple[Transaction, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A State as the workers publish it: what an edge needs to start one without its code.

    `schema` is the JSON Schema of the input, `defaults` nothing: the worker validates and fills in. `live` counts the
    workers that run it now.
    """

    name: str
    version: int
    queue: str
    schema: str
    connection_hooks: bool
    keep_updates: int
    retain_s: float
    live: int = 0


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as its peers rank it. `room`: how many more transactions it would take."""

    id: str
    specs: tuple[Spec, ...]
    room: int
