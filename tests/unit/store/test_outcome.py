from __future__ import annotations

import pytest
from redis import exceptions as redis_errors

from orbit.errors import Internal, OrbitError, OutcomeUnknown, Overloaded, StoreUnusable, Unavailable
from orbit.store.outcome import not_sent, refusal, unanswered


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), Overloaded),
        (redis_errors.ReadOnlyError("You can't write against a read only replica."), Unavailable),
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), Unavailable),
        (redis_errors.MasterDownError("Link with MASTER is down"), Unavailable),
        (redis_errors.ClusterDownError("Hash slot not served"), Unavailable),
        (redis_errors.TryAgainError("Multiple keys request during rehashing of slot"), Unavailable),
        (redis_errors.MovedError("605 127.0.0.1:7000"), Unavailable),
        (redis_errors.AskError("605 127.0.0.1:7000"), Unavailable),
        (redis_errors.ResponseError("BUSY Redis is busy running a script."), Unavailable),
        (redis_errors.ResponseError("MISCONF Redis is configured to save RDB snapshots"), Unavailable),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."), Unavailable),
        (redis_errors.NoPermissionError("this user has no permissions to run the 'evalsha' command"), StoreUnusable),
        (redis_errors.AuthenticationError("Authentication required."), StoreUnusable),
        (redis_errors.ResponseError("WRONGPASS invalid username-password pair"), StoreUnusable),
        (redis_errors.ResponseError("ERR The user executing the script can't run this command"), StoreUnusable),
        (redis_errors.ResponseError("WRONGTYPE Operation against a key"), Internal),
        (redis_errors.ResponseError("ERR anything else"), Internal),
    ],
)
def test_an_error_reply_says_that_nothing_was_written(error: Exception, meaning: type[OrbitError]) -> None:
    assert type(refusal(error)) is meaning


def test_what_was_sent_and_not_answered() -> None:
    lost = redis_errors.ConnectionError("Connection closed by server.")
    assert isinstance(unanswered(lost, writes=True), OutcomeUnknown)
    read = unanswered(lost, writes=False)
    assert isinstance(read, Unavailable)
    assert (str(read), read.retry_after_ms) == ("Redis didn't answer (Connection closed by server)", 1_000)


def test_what_was_not_sent_is_not_done() -> None:
    error = not_sent(OSError(111, "Connection\nrefused"))
    assert "\n" not in str(error)
    assert str(not_sent(None)) == "Redis can't be reached"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (redis_errors.ConnectionError("Error 111 connecting"), Unavailable),
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), Unavailable),
        (redis_errors.ResponseError("BUSY Redis is busy running a script."), Unavailable),
        (redis_errors.AuthenticationError("invalid username-password pair or user is disabled."), StoreUnusable),
        (redis_errors.ResponseError("DB index is out of range"), StoreUnusable),
    ],
)
def test_a_connection_that_the_rules_refuse_is_not_waited_for(error: Exception, meaning: type[OrbitError]) -> None:
    assert type(not_sent(error)) is meaning
