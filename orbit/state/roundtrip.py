"""Whether a State comes back from its snapshot as it was."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pydantic import BaseModel

from orbit.state.base import State
from orbit.state.snapshots import encode, rebuild, unwritable


def flaw_of(state: State) -> tuple[str, str] | None:
    """Write `state` down and rebuild it: the first field that comes back as another one, and what went wrong.

    None: all is well. The place is "" where no field can be named.
    """
    try:
        snapshot = encode(state)
    except Exception as error:  # serializers are the user's
        reason = f"it can't be written to JSON ({type(error.__cause__ or error).__name__})"
        return unwritable(state), reason
    try:
        rebuilt = rebuild(type(state), snapshot)
        again = encode(rebuilt)
    except Exception as error:
        place = _place(error)
        return place, f"what a snapshot holds can't be rebuilt ({type(error).__name__})"
    for name in type(state).model_fields:
        if not _same(getattr(state, name), getattr(rebuilt, name)):
            return name, "it comes back from a snapshot as another value (a validator that changes its own output?)"
    if snapshot != again and not _same(state.__dict__, rebuilt.__dict__):
        return "", "it comes back from a snapshot as another one"
    return None


def _place(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return ""
    found = errors(include_input=False, include_context=False, include_url=False)
    return str(found[0]["loc"][0]) if found and found[0]["loc"] else ""


def _same(one: Any, other: Any) -> bool:
    """Equality that takes NaN for NaN and doesn't judge objects that compare by identity."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if type(one) is not type(other):
        return bool(one == other) and not isinstance(one, list | tuple)
    if isinstance(one, BaseModel):
        return _same(one.__dict__, other.__dict__)
    if dataclasses.is_dataclass(one):
        return all(_same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return getattr(type(one), "__eq__", None) is object.__eq__ or bool(one == other)
