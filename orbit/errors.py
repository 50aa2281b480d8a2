"""Every error that Orbit raises, as one tree.

    OrbitError
    ├── RequestError             what was asked can't be done; `code` is one of protocol.md's codes
    │   ├── BadRequest           bad_request
    │   ├── Unauthorized         unauthorized
    │   ├── Forbidden            forbidden
    │   ├── NotFound             not_found
    │   ├── Conflict             conflict
    │   ├── Gone                 gone
    │   ├── TooLarge             too_large      (a ValueError, too)
    │   ├── RateLimited          rate_limited
    │   ├── Overloaded           overloaded
    │   ├── Unavailable          unavailable
    │   ├── OutOfOrder           out_of_order   (carries `last_mid`)
    │   ├── Replaced             replaced
    │   ├── Ended                ended
    │   ├── StateError           state_error
    │   └── Internal             internal
    ├── OutcomeUnknown           the connection to Redis broke: the write may be done or not
    ├── StoreUnusable            this Redis can't hold a deployment; the text says what to do
    ├── DefinitionError          a State that can't work as it is written
    ├── UsageError               a verb called where it doesn't belong (a TypeError's cousin, at run time)
    ├── ProtocolError            bytes from the other side that mean nothing
    ├── MessageLost              client: a message of unknown fate after a rewind
    ├── UpdatesReset             client: the updates seen so far don't stand any more; start from a view
    └── TransactionFailed        client: the transaction ended as failed or cancelled

An expected refusal inside Orbit (fenced, trimmed, duplicate) is a value, not an exception.
What ends or unloads a `run` from within (`orbit.state.Unloaded`) is a `BaseException` outside this tree, so that
`except Exception` in a loop of a State doesn't swallow it.
"""

from __future__ import annotations

from typing import ClassVar


class OrbitError(Exception):
    """Base of all errors that Orbit raises."""


class RequestError(OrbitError):
    """A request that was refused.

    Attributes:
        code: One of the codes of the public protocol.
        retry_after_ms: When to ask again, where that makes sense.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class BadRequest(RequestError):
    """The request means nothing, or its input fails the State's schema."""

    code = "bad_request"


class Unauthorized(RequestError):
    """No token, or one that isn't valid."""

    code = "unauthorized"


class Forbidden(RequestError):
    """A valid identity without the right."""

    code = "forbidden"


class NotFound(RequestError):
    """No such transaction, or one that Redis lost."""

    code = "not_found"


class Conflict(RequestError):
    """The id or key is taken by another start, or the transaction's status doesn't allow it."""

    code = "conflict"


class Gone(RequestError):
    """The transaction was removed while it was watched."""

    code = "gone"


class TooLarge(RequestError, ValueError):
    """A value over its limit; the message names the size and the limit."""

    code = "too_large"


class RateLimited(RequestError):
    """Too many requests."""

    code = "rate_limited"


class Overloaded(RequestError):
    """No room now: the inbox or the server is full. Nothing was stored."""

    code = "overloaded"


class Unavailable(RequestError):
    """Redis can't be reached now."""

    code = "unavailable"


class OutOfOrder(RequestError):
    """A message whose predecessor isn't stored."""

    code = "out_of_order"

    def __init__(self, message: str, *, last_mid: int, retry_after_ms: int | None = None) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.last_mid = last_mid


class Replaced(RequestError):
    """A newer attach of the same session took this one's place."""

    code = "replaced"


class Ended(RequestError):
    """The transaction is over."""

    code = "ended"


class StateError(RequestError):
    """The State's code raised."""

    code = "state_error"


class Internal(RequestError):
    """A defect of Orbit's own; the log of the process has the details."""

    code = "internal"


class OutcomeUnknown(OrbitError):
    """The connection broke or timed out after a write was sent: it may be done or not.

    Sending the very same request again is safe; sending another one isn't.
    """


class StoreUnusable(OrbitError):
    """This Redis can't hold a deployment: too old, other partitions, or its rules forbid what Orbit needs."""


class DefinitionError(OrbitError):
    """A State that can't work as it is written; the message names the State and the field."""


class UsageError(OrbitError):
    """A verb called where it doesn't belong; the message names what to use instead."""


class ProtocolError(OrbitError):
    """Bytes from the other side that can't be read as messages."""


class MessageLost(OrbitError):
    """A message that the client sent has an unknown fate: Redis lost it, or the session was forgotten."""


class UpdatesReset(OrbitError):
    """What was built from the updates so far is to be forgotten: begin from `view`, then go on after `cursor`.

    Attributes:
        reason: `trimmed` or `rewound`.
        view: What the State shows to those who can't have the log from its start; None where it has no view.
        cursor: Where to go on.
    """

    def __init__(self, reason: str, view: object, cursor: str) -> None:
        super().__init__(f"the log was {reason}: begin anew from the view, and go on after {cursor}")
        self.reason = reason
        self.view = view
        self.cursor = cursor


class TransactionFailed(OrbitError):
    """The transaction didn't finish: it failed or was cancelled.

    Attributes:
        status: `failed` or `cancelled`.
        type: The exception's type, where one is known.
    """

    def __init__(self, message: str, *, status: str, type: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type


REQUEST_ERRORS: dict[str, type[RequestError]] = {
    error.code: error
    for error in (
        BadRequest, Unauthorized, Forbidden, NotFound, Conflict, Gone, TooLarge, RateLimited,
        Overloaded, Unavailable, OutOfOrder, Replaced, Ended, StateError, Internal,
    )
}
"""The error class of each code of the protocol."""
