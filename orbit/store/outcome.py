"""What a failure means: certainly nothing done, or done or not.

A command was *sent* once its bytes went to the socket. From then on a lost connection or a time-out leaves a write's
outcome unknown. A reply is never unknown: the scripts check everything before their first write, and that one needs
memory, so an error reply of the server's means that nothing was written.
"""

from __future__ import annotations

import ssl

from redis import exceptions as redis_errors

from orbit.errors import Internal, OrbitError, OutcomeUnknown, Overloaded, StoreUnusable, Unavailable

RETRY_MS = 1_000
"""When to ask again while Redis is away or full."""

_AWAY = (
    "BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "UNKILLABLE",
    "MOVED", "ASK",
)  # fmt: skip
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.NoPermissionError, "NOPERM"),
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.TryAgainError, "TRYAGAIN"),
    (redis_errors.ClusterDownError, "CLUSTERDOWN"),
    (redis_errors.AuthenticationError, "NOAUTH"),
    (redis_errors.MovedError, "MOVED"),
    (redis_errors.AskError, "ASK"),
)


def code_of(error: Exception) -> str:
    """The error code with which the server's reply began (redis-py takes some off and keeps them as classes)."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return str(error).partition(" ")[0]


def refusal(error: Exception) -> OrbitError:
    """What an error reply means to a caller."""
    code, text = code_of(error), str(error)
    if code == "OOM":
        return Overloaded("Redis is full (maxmemory)", retry_after_ms=RETRY_MS)
    if code in _AWAY:
        return Unavailable(f"Redis can't do this now ({code})", retry_after_ms=RETRY_MS)
    if code in ("NOPERM", "NOAUTH", "WRONGPASS") or "can't run this command" in text or "ACL failure" in text:
        return StoreUnusable(f"Redis refuses by its rules: {text}")
    return Internal(f"Redis answered with an error: {text}")


def not_sent(cause: BaseException | None) -> OrbitError:
    """Nothing was sent, so nothing is done. A server that refused the connection by its rules won't take it later."""
    if isinstance(_origin(cause), ssl.SSLCertVerificationError):
        return StoreUnusable(
            f"the server's certificate isn't one that is trusted: name the file of its authority with ?ssl_ca_certs="
            f"{_because(_origin(cause))}"
        )
    said = cause.__cause__ if isinstance(cause, redis_errors.ConnectionError) and cause.__cause__ else cause
    for error in (cause, said):
        if isinstance(error, redis_errors.ResponseError | redis_errors.AuthenticationError):
            meaning = refusal(error)
            refused = StoreUnusable(f"Redis refuses the connection{_because(cause)}")
            return meaning if isinstance(meaning, Unavailable) else refused
    return Unavailable(f"Redis can't be reached{_because(cause)}", retry_after_ms=RETRY_MS)


def _origin(error: BaseException | None) -> BaseException | None:
    """What it all began with."""
    while error is not None and (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def unanswered(cause: BaseException | None, *, writes: bool) -> OrbitError:
    """It was sent, and no answer came."""
    if writes:
        return OutcomeUnknown(f"Redis didn't answer{_because(cause)}: it may be done or not")
    return Unavailable(f"Redis didn't answer{_because(cause)}", retry_after_ms=RETRY_MS)


def _because(cause: BaseException | None) -> str:
    text = " ".join(str(cause).split()) if cause else ""
    return f" ({text.rstrip('.')})" if text else ""
