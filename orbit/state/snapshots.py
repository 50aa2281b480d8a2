"""How a State's fields are written down and come back."""

from __future__ import annotations

from typing import TypeVar

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
        reason = " ".join(str(error).split())
        raise UsageError(f"{type(state).__name__}: its fields can't be written down: {reason}") from error


def rebuild(cls: type[S], snapshot: bytes) -> S:
    """The State that `encode` wrote. Raises pydantic's ValidationError, and whatever a validator raises."""
    return cls.model_validate_json(snapshot, by_alias=False, by_name=True)


def from_input(cls: type[S], fields: bytes) -> S:
    """The State of a start's input, as JSON, by name or alias. Raises as `rebuild`."""
    return cls.model_validate_json(fields, by_alias=True, by_name=True)


def bind(state: State, transaction: Transaction) -> None:
    """Give the hooks their transaction."""
    state._transaction = transaction


def become(state: S, other: S) -> None:
    """Give `state` the fields and the private attributes of `other`, which is given up; the transaction stays."""
    transaction = state._transaction
    for part in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(state, part, getattr(other, part))
    state._transaction = transaction
