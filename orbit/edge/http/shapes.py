"""What goes over HTTP, as types: the handlers answer with them, and the OpenAPI description is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from orbit.errors import REQUEST_ERRORS

Status = Literal["pending", "running", "idle", "finished", "failed", "cancelled"]
Reason = Literal["trimmed", "rewound"]
STATUSES: tuple[str, ...] = get_args(Status)

Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{16,64}$")]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Code = Annotated[str, Field(json_schema_extra={"enum": sorted(REQUEST_ERRORS)})]

# ---- answers


class Failure(TypedDict):
    """How a transaction failed: the exception's type, and a text that is meant for clients."""

    type: str
    message: str


class Transaction(TypedDict):
    """A transaction, as listings show it."""

    id: Name
    state: str
    version: int
    queue: str
    status: Status
    waiting_for: NotRequired[str]
    created_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    cursor: str
    commit: int
    epoch: str
    attempts: int
    result: NotRequired[Any]
    error: NotRequired[Failure]


class StartedTransaction(Transaction):
    """A transaction that was started, with a token for it where the edge can sign one."""

    token: NotRequired[str]


class Session(TypedDict):
    """A connected session, by its public name."""

    session: str
    subject: str | None
    last_mid: int


class ShownTransaction(Transaction):
    """A transaction alone, with its connected sessions: at most 100 of them."""

    sessions: list[Session]
    sessions_total: int


class TransactionList(TypedDict):
    """Newest first. `next`: the `page` to ask for then; null at the end."""

    transactions: list[Transaction]
    next: str | None


class Update(TypedDict):
    cursor: str
    data: Any


class Reset(TypedDict):
    """What was built so far doesn't stand: begin with `view`."""

    cursor: str
    reason: Reason
    view: Any


class UpdateList(TypedDict):
    """Updates, and the cursor to go on from."""

    updates: list[Update]
    cursor: str
    status: Status
    reset: NotRequired[Reset]


class Outcome(TypedDict):
    """How a transaction ended."""

    status: Status
    result: NotRequired[Any]
    error: NotRequired[Failure]


class StatusOnly(TypedDict):
    status: Status


class StoredMessage(TypedDict):
    """A message is stored. `duplicate`: it was before."""

    duplicate: bool


class KnownState(TypedDict):
    """A State that workers published. `schema`: the JSON Schema of its input."""

    name: str
    version: int
    queue: str
    workers: int
    schema: dict[str, Any]


class StateList(TypedDict):
    states: list[KnownState]


class Info(TypedDict):
    """About this edge. `limits`: as in force; null where there is none."""

    version: str
    protocol: Literal[1]
    codecs: list[str]
    limits: dict[str, float | None]


class Health(TypedDict):
    status: str


class Refusal(TypedDict):
    """Why a request was refused. `last_mid` goes with `out_of_order`."""

    code: Code
    message: str
    retry_after_ms: NotRequired[int]
    last_mid: NotRequired[int]


class Error(TypedDict):
    error: Refusal


# ---- bodies


class Start(TypedDict):
    """Start a transaction. The same `id` with the same body again starts nothing."""

    state: str
    input: NotRequired[dict[str, Any]]
    id: NotRequired[Name | None]
    delay_s: NotRequired[Annotated[float, Field(ge=0)] | None]
    at: NotRequired[Time | None]
    queue: NotRequired[Annotated[str, Field(pattern="^[A-Za-z0-9_.-]{1,64}$")] | None]
    priority: NotRequired[Annotated[int, Field(ge=-100, le=100)] | None]


class Message(TypedDict):
    """A message for the State; `session` and `mid` go together."""

    data: Any
    session: NotRequired[Name | None]
    mid: NotRequired[Annotated[int, Field(ge=1)] | None]


class Cancellation(TypedDict):
    reason: NotRequired[Annotated[str, Field(max_length=1000)] | None]


class Nothing(TypedDict):
    pass
