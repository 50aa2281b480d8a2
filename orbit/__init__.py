"""Orbit: long jobs that people watch.

A `State` class is run by a worker fleet; its numbered updates reach any number of clients through stateless edges,
with no gap and no repeat, whoever is killed meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orbit.errors import (
    DefinitionError,
    MessageLost,
    OrbitError,
    OutcomeUnknown,
    RequestError,
    TransactionFailed,
    UsageError,
)
from orbit.state import (
    STOP,
    Call,
    Child,
    Connection,
    CurrentStep,
    Message,
    State,
    Transaction,
    Unloaded,
    current_step,
    lifespan,
    middleware,
)

if TYPE_CHECKING:
    from orbit.client import Broker, Client, SyncBroker

__version__ = "0.1.0"

__all__ = [
    "STOP",
    "Broker",
    "Call",
    "Child",
    "Client",
    "Connection",
    "CurrentStep",
    "DefinitionError",
    "Message",
    "MessageLost",
    "OrbitError",
    "OutcomeUnknown",
    "RequestError",
    "State",
    "SyncBroker",
    "Transaction",
    "TransactionFailed",
    "Unloaded",
    "UsageError",
    "__version__",
    "current_step",
    "lifespan",
    "middleware",
]


def __getattr__(name: str) -> Any:
    """`Broker`, `SyncBroker` and `Client` bring the upper floors along: imported when asked for."""
    if name in ("Broker", "Client", "SyncBroker"):
        from orbit import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
