"""How a State's fields are written down and come back."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic_core import to_jsonable_python

from orbit.errors import UsageError
from orbit.state.base import State
from orbit.state.verbs import Transaction

S = TypeVar("S", bound=State)


def encode(state: State) -> bytes:
    """The fields as JSON, as a snapshot holds them.

    Raises:
        UsageError: A field holds something that can't be written down.
    """
    try:
        return state.__pydantic_serializer__.to_json(state, by_alias=False, round_trip=True, warnings="error")
    except Exception as error:  # pydantic's own, a lone surrogate's, and whatever a custom serializer raises
        reason, name = " ".join(str(error).split()), unwritable(state)
        raise UsageError(
            f"{type(state).__name__}{'.' if name else ''}{name}: can't be written down: {reason}: a field holds what"
            " pydantic writes to JSON and reads back; keep the rest in a private attribute, or outside"
        ) from error


def unwritable(state: State) -> str:
    """The first field that can't be written down, found by writing each alone; empty where it is none of them."""
    for name in type(state).model_fields:
        try:
            state.model_dump_json(include={name}, by_alias=False, round_trip=True, warnings="error")
        except Exception:
            return name
    return ""


def largest(snapshot: bytes) -> tuple[str, int]:
    """The field that takes most of what `encode` wrote, and how many bytes it takes."""
    sizes = {name: len(json.dumps(value)) for name, value in json.loads(snapshot).items()}
    name = max(sizes, key=lambda name: sizes[name])
    return name, sizes[name]


def rebuild(cls: type[S], snapshot: bytes) -> S:
    """The State that `encode` wrote. Raises pydantic's ValidationError, and whatever a validator raises."""
    return cls.model_validate_json(snapshot, by_alias=False, by_name=True)


def from_input(cls: type[S], fields: bytes) -> S:
    """The State of a start's input, as JSON, by name or alias. Raises as `rebuild`."""
    return cls.model_validate_json(fields, by_alias=True, by_name=True)


def migrated(cls: type[S], version: int, snapshot: bytes) -> S:
    """The State of a snapshot that an older version of `cls` wrote, by its `migrate`.

    Raises:
        UsageError: What `migrate` returned is no State of today's.
        Whatever `migrate` or a validator raises.
    """
    fields = cls.migrate(version, json.loads(snapshot))  # type: ignore[attr-defined]
    if not isinstance(fields, dict):
        raise UsageError(f"{cls.__name__}.migrate: must return the fields as a dict, not {type(fields).__name__}")
    return rebuild(cls, json.dumps(fields, default=to_jsonable_python).encode())


def bind(state: State, transaction: Transaction, context: object = None) -> None:
    """Give the hooks their transaction, and what their worker has opened for them."""
    state._transaction = transaction
    state._context = context


def become(state: S, other: S) -> None:
    """Give `state` the fields and the private attributes of `other`, which is given up; the transaction stays."""
    transaction, context = state._transaction, state._context
    for part in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(state, part, getattr(other, part))
    state._transaction, state._context = transaction, context
