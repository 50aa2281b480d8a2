"""Where Redis is: an URL, and connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orbit.errors import StoreUnusable

Connect = Callable[[], AbstractConnection]
"""Makes a connection that isn't open yet."""

_SCHEMES = ("redis", "rediss", "unix")
_LATER = ("redis+cluster", "redis+sentinel")


def shown(url: str) -> str:
    """`url` without user, password and options, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def open_connection(connection: AbstractConnection, timeout_s: float) -> None:
    """Connect within `timeout_s`, greetings included."""
    async with asyncio.timeout(timeout_s):
        await connection.connect()  # type: ignore[no-untyped-call]


def connector(url: str, timeout_s: float) -> Connect:
    """How to connect to the Redis at `url`.

    Connections never send anything again by themselves: the store decides what may be sent again.

    Raises:
        StoreUnusable: An URL that isn't one, or a kind of deployment that isn't supported.
    """
    scheme = url.partition("://")[0]
    if scheme in _LATER:
        raise StoreUnusable(
            f"{scheme}:// isn't supported by this version of Orbit: give the address of one server as redis://host:port"
        )
    if scheme not in _SCHEMES:
        raise StoreUnusable(f"a Redis URL begins with redis://, rediss:// or unix://, not {scheme[:32]!r}")
    try:
        options = dict(parse_url(url))
    except ValueError as error:
        raise StoreUnusable(f"the Redis URL {shown(url)} can't be read: {error}") from None
    make = options.pop("connection_class", Connection)
    options |= {
        "protocol": 2, "retry": Retry(NoBackoff(), 0), "retry_on_error": [], "health_check_interval": 0,
        "socket_timeout": None, "socket_connect_timeout": timeout_s, "decode_responses": False,
    }
    return lambda: make(**options)  # type: ignore[operator]  # the class stands in the options untyped
