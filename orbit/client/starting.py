"""Starts: a State, by class or by name, and its input, made into a transaction to be written."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from orbit.errors import BadRequest
from orbit.protocol.ids import TxId, is_name
from orbit.protocol.inputs import body_digest, check_input, check_size, unknown_state
from orbit.state import State, from_input, hooks_of
from orbit.store.types import NewTransaction, StateRecord

_CONNECTION_HOOKS = frozenset({"on_new_connection", "on_disconnect"})
MAX_DELAY_S = 10 * 365 * 86_400.0


def draw_id() -> TxId:
    """A new transaction's id: 128 random bits."""
    return TxId(secrets.token_urlsafe(16))


def check_id(tx: object) -> TxId:
    """`tx`, if it may be an id.

    Raises:
        BadRequest: It may not.
    """
    if not is_name(tx):
        raise BadRequest("an id is 16 to 64 characters of A-Za-z0-9_-")
    return TxId(str(tx))


def check_delay(delay_s: float) -> float:
    """`delay_s`, if a start may wait so long."""
    if not 0 <= delay_s <= MAX_DELAY_S:
        raise BadRequest(f"delay_s must be from 0 to {MAX_DELAY_S:.0f}")
    return float(delay_s)


def by_class(state: type[State] | State, fields: Mapping[str, Any], tx: TxId, delay_s: float) -> NewTransaction:
    """A start whose input is validated in full: a State and its fields, or a State that holds them already.

    Raises:
        BadRequest: naming the fields that don't fit and why, without the values.
    """
    cls = type(state) if isinstance(state, State) else state
    options = cls.__orbit__
    snapshot = check_size(_validated(cls, state if isinstance(state, State) else dict(fields)))
    return NewTransaction(
        tx=tx,
        state=options.name,
        version=options.version,
        queue=options.queue,
        fields=snapshot,
        body_digest=body_digest(options.name, snapshot, delay_s),
        connection_hooks=bool(_CONNECTION_HOOKS & hooks_of(cls)),
        keep_updates=options.keep_updates,
        retain_s=options.retain_s,
        delay_s=delay_s,
    )


def by_name(
    name: str, records: Iterable[StateRecord], fields: Mapping[str, Any], tx: TxId, delay_s: float
) -> NewTransaction:
    """A start whose input fits the schema that the workers published.

    Raises:
        BadRequest: No worker ever published this State (the message names those known), or the input doesn't fit.
    """
    known = list(records)
    record = max((one for one in known if one.name == name), key=lambda one: one.version, default=None)
    if record is None:
        raise unknown_state(name, [one.name for one in known])
    snapshot = check_input(name, record.schema, dict(fields))
    return NewTransaction(
        tx=tx,
        state=record.name,
        version=record.version,
        queue=record.queue,
        fields=snapshot,
        body_digest=body_digest(name, snapshot, delay_s),
        connection_hooks=record.connection_hooks,
        keep_updates=record.keep_updates,
        retain_s=record.retain_s,
        delay_s=delay_s,
    )


def _validated(cls: type[State], given: State | dict[str, Any]) -> bytes:
    """What was given, as JSON that the worker takes: all of a State, or of fields those that were given, as the worker
    fills in the others."""
    name = cls.__orbit__.name
    unset = not isinstance(given, State)
    try:
        state = cls.model_validate(given, by_alias=True, by_name=True)
        snapshot = state.__pydantic_serializer__.to_json(state, exclude_unset=unset, round_trip=True, by_alias=False)
        from_input(cls, snapshot)
    except ValidationError as error:
        reasons = [".".join(map(str, flaw["loc"])) + ": " + flaw["msg"] for flaw in error.errors(include_input=False)]
        raise BadRequest(f"the input of {name} doesn't fit: {'; '.join(reasons[:10])}") from None
    except ValueError as error:
        raise BadRequest(f"the input of {name} can't be written down: {' '.join(str(error).split())[:500]}") from None
    return snapshot
