"""Refusals that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["pending", "running", "idle", "finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Missing:
    """No such transaction: never started here, removed, or lost by Redis."""


@dataclass(frozen=True, slots=True)
class Over:
    """The transaction has ended, as `status`."""

    status: Status


@dataclass(frozen=True, slots=True)
class Barred:
    """The State barred this session, with this text."""

    message: str


@dataclass(frozen=True, slots=True)
class Crowded:
    """As many sessions are attached as may be."""
