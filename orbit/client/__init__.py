"""For applications: `Broker` (and `SyncBroker`) over Redis, `Client` over the edges' WebSocket and HTTP."""

from __future__ import annotations

from orbit.client.attachment import Attachment
from orbit.client.backoff import Backoff
from orbit.client.broker import Broker
from orbit.client.client import Client
from orbit.client.sync_broker import SyncBroker
from orbit.client.types import ScheduleInfo, StateInfo, TransactionError, TransactionInfo, TransactionPage
from orbit.protocol.messages import Advance, Attached, End, Rejected, Reset, Update
from orbit.protocol.sessions import Lost

__all__ = [
    "Advance",
    "Attached",
    "Attachment",
    "Backoff",
    "Broker",
    "Client",
    "End",
    "Lost",
    "Rejected",
    "Reset",
    "ScheduleInfo",
    "StateInfo",
    "SyncBroker",
    "TransactionError",
    "TransactionInfo",
    "TransactionPage",
    "Update",
]
