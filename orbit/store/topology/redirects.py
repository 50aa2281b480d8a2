"""What an error reply says about where a command belongs. Pure.

Each of these is answered before a command does anything: nothing was written, for certain, so it may be sent again.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis import exceptions as redis_errors

from orbit.store.address import Server
from orbit.store.outcome import code_of


@dataclass(frozen=True, slots=True)
class Moved:
    """Another server holds this slot. `server.host` is empty where it is that of the server which answered."""

    slot: int
    server: Server


@dataclass(frozen=True, slots=True)
class Ask:
    """The slot is on its way to another server, and what was asked for isn't here any more: once, ask there."""

    slot: int
    server: Server


@dataclass(frozen=True, slots=True)
class Later:
    """Nobody can do it now: a slot's keys lie at two servers, a cluster or a primary is being replaced."""

    code: str


LATER = ("TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING")


def redirect_of(error: Exception) -> Moved | Ask | Later | None:
    """What the reply says; None where it is about the command itself."""
    if isinstance(error, redis_errors.MovedError):
        return Moved(int(error.slot_id), Server(*error.node_addr))
    if isinstance(error, redis_errors.AskError):
        return Ask(int(error.slot_id), Server(*error.node_addr))
    code = code_of(error)
    if code in LATER:
        return Later(code)
    return None
