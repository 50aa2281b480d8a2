"""What starts, and what is there already."""

from __future__ import annotations

from dataclasses import dataclass

from orbit.protocol.entries import Failure
from orbit.protocol.ids import TxId
from orbit.store.types.refusals import Status


@dataclass(frozen=True, slots=True)
class NewTransaction:
    """A start. `fields` is the first snapshot (pydantic's JSON); `body_digest` tells a repeated start from another one.

    `connection_hooks`: the State has `on_new_connection` or `on_disconnect`, so changes of places are noted for it.
    """

    tx: TxId
    state: str
    version: int
    queue: str
    fields: bytes
    body_digest: str
    connection_hooks: bool
    keep_updates: int
    retain_s: float
    delay_s: float = 0.0
    at_ms: int | None = None
    """Not before this time of the server's clock, in ms since 1970; it goes before `delay_s`."""
    priority: int = 0
    parent: Parent | None = None
    lineage: str = ""
    """The names of the States from the first ancestor down to this one, with `/` between."""


@dataclass(frozen=True, slots=True)
class Parent:
    """Whose child a transaction is: the parent, and under which key it knows the child."""

    tx: TxId
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction ended. `result` is packed."""

    status: Status
    result: bytes | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Started:
    tx: TxId


@dataclass(frozen=True, slots=True)
class Existed:
    """The same start was done before; nothing was changed. `outcome`: how it stands by now."""

    tx: TxId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Taken:
    """The id is another start's; nothing was changed."""

    tx: TxId
