"""Starts: a State, by class or by name, and its input, made into a transaction to be written."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from orbit.errors import BadRequest
from orbit.protocol.ids import TxId, is_name
from orbit.protocol.inputs import body_digest, check_input, check_size, unknown_state
from orbit.state import State, from_input, hooks_of
from orbit.store.types import NewTransaction, StateRecord

_CONNECTION_HOOKS = frozenset({"on_new_connection", "on_disconnect"})
_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
MAX_DELAY_S = 10 * 365 * 86_400.0
MAX_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class StartOptions:
    """When and where a transaction runs.

    Attributes:
        delay_s: Not before so long from now.
        at: Not before this time, which has a time zone; instead of `delay_s`.
        queue: Instead of its State's queue.
        priority: From -100 to 100, the higher the more urgent among those of its queue and State.

    Raises:
        BadRequest: One of them is out of its range; the message names it.
    """

    delay_s: float = 0.0
    at: datetime | None = None
    queue: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        number = isinstance(self.delay_s, int | float) and not isinstance(self.delay_s, bool)
        if not number or not 0 <= self.delay_s <= MAX_DELAY_S:
            raise BadRequest(f"delay_s must be from 0 to {MAX_DELAY_S:.0f}")
        if self.at is not None:
            if not isinstance(self.at, datetime) or self.at.tzinfo is None:
                raise BadRequest("at must be a time with a time zone")
            if self.delay_s:
                raise BadRequest("delay_s or at, not both")
        if self.queue is not None and not (isinstance(self.queue, str) and _QUEUE.fullmatch(self.queue)):
            raise BadRequest("queue must be 1 to 64 characters of A-Za-z0-9_.-")
        if type(self.priority) is not int or not -MAX_PRIORITY <= self.priority <= MAX_PRIORITY:
            raise BadRequest(f"priority must be a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}")

    @property
    def at_ms(self) -> int | None:
        return None if self.at is None else max(0, round(self.at.timestamp() * 1000))


AT_ONCE = StartOptions()


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


def by_class(
    state: type[State] | State, fields: Mapping[str, Any], tx: TxId, options: StartOptions = AT_ONCE
) -> NewTransaction:
    """A start whose input is validated in full: a State and its fields, or a State that holds them already.

    Raises:
        BadRequest: naming the fields that don't fit and why, without the values.
    """
    cls = type(state) if isinstance(state, State) else state
    own = cls.__orbit__
    snapshot = check_size(_validated(cls, state if isinstance(state, State) else dict(fields)))
    return _new(
        tx, snapshot, options, state=own.name, version=own.version, queue=own.queue, keep_updates=own.keep_updates,
        connection_hooks=bool(_CONNECTION_HOOKS & hooks_of(cls)), retain_s=own.retain_s,
    )  # fmt: skip


def by_name(
    name: str, records: Iterable[StateRecord], fields: Mapping[str, Any], tx: TxId, options: StartOptions = AT_ONCE
) -> NewTransaction:
    """A start whose input fits the schema that the workers published.

    Raises:
        BadRequest: No worker ever published this State (the message names those known), or the input doesn't fit.
    """
    record = newest(name, records)
    return by_record(record, check_input(name, record.schema, dict(fields)), tx, options)


def newest(name: str, records: Iterable[StateRecord]) -> StateRecord:
    """The newest version of a State that workers published. Raises BadRequest, which names those known."""
    known = list(records)
    record = max((one for one in known if one.name == name), key=lambda one: one.version, default=None)
    if record is None:
        raise unknown_state(name, [one.name for one in known])
    return record


def by_record(record: StateRecord, snapshot: bytes, tx: TxId, options: StartOptions = AT_ONCE) -> NewTransaction:
    """A start of what workers published, with an input that was checked."""
    return _new(
        tx, snapshot, options, state=record.name, version=record.version, queue=record.queue,
        keep_updates=record.keep_updates, connection_hooks=record.connection_hooks, retain_s=record.retain_s,
    )  # fmt: skip


def _new(tx: TxId, snapshot: bytes, options: StartOptions, *, state: str, queue: str, **more: Any) -> NewTransaction:
    return NewTransaction(
        tx=tx,
        state=state,
        queue=options.queue or queue,
        fields=snapshot,
        body_digest=body_digest(
            state, snapshot, delay_s=float(options.delay_s), at_ms=options.at_ms, queue=options.queue,
            priority=options.priority,
        ),
        delay_s=float(options.delay_s),
        at_ms=options.at_ms,
        priority=options.priority,
        **more,
    )  # fmt: skip


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
