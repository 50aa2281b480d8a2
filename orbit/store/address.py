"""Where Redis is: an URL, and connections to it.

    redis://[user:password@]host[:port][/db]            one server; rediss:// with TLS
    unix://[user:password@]/path[?db=N]
    redis+sentinel://[user:password@]host[:port],.../service[/db]
    redis+cluster://[user:password@]host[:port],...     some of its nodes; the others are found through them

rediss+sentinel:// and rediss+cluster:// are those with TLS. Options stand behind a `?`: see `OPTIONS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orbit.errors import StoreUnusable

Connect = Callable[[], AbstractConnection]
"""Makes a connection that isn't open yet."""
Kind = Literal["server", "sentinel", "cluster"]

_KINDS: dict[str, Kind] = {
    "redis": "server", "rediss": "server", "unix": "server",
    "redis+sentinel": "sentinel", "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster", "rediss+cluster": "cluster",
}  # fmt: skip
_PORTS: dict[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
OPTIONS = ("db", *_TLS_OPTIONS, *_SENTINEL_OPTIONS)
"""All that may stand behind the `?`: a database; TLS's files, `ssl_cert_reqs` (required, none), `ssl_check_hostname`
(true, false); what the Sentinels themselves ask for."""


class Server(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """What an URL says.

    Attributes:
        hosts: The server; the Sentinels; some nodes of the cluster. None for a Unix socket.
        path: Of the Unix socket.
        service: What the Sentinels call the primary.
        login: User and password at the servers; `sentinel_login`: at the Sentinels.
        tls: With TLS, and these options of redis-py's.
    """

    kind: Kind
    hosts: tuple[Server, ...]
    path: str
    service: str
    db: int
    login: Mapping[str, str]
    sentinel_login: Mapping[str, str]
    tls: Mapping[str, str | bool] | None

    def options(self, timeout_s: float, login: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Of any connection, for redis-py. It never sends anything again by itself: the store decides that."""
        return {
            "protocol": 2, "retry": Retry(NoBackoff(), 0), "retry_on_error": [], "health_check_interval": 0,
            "socket_timeout": None, "socket_connect_timeout": timeout_s, "decode_responses": False,
            **(self.login if login is None else login), **(self.tls or {}),
        }  # fmt: skip

    @property
    def connection_class(self) -> type[Connection]:
        return Connection if self.tls is None else SSLConnection

    def to(self, server: Server, timeout_s: float) -> Connect:
        """How to connect to one of the servers."""
        options = self.options(timeout_s) | {"db": self.db, "host": server.host, "port": server.port}
        return lambda: self.connection_class(**options)

    def to_sentinel(self, server: Server, timeout_s: float) -> Connect:
        """How to connect to one of the Sentinels."""
        options = self.options(timeout_s, self.sentinel_login) | {"host": server.host, "port": server.port}
        return lambda: self.connection_class(**options)

    def to_socket(self, timeout_s: float) -> Connect:
        """How to connect to the Unix socket."""
        options = self.options(timeout_s) | {"db": self.db, "path": self.path}
        return lambda: UnixDomainSocketConnection(**options)


def shown(url: str) -> str:
    """`url` without user, password and options, for messages."""
    scheme, hosts, path, _ = _split(url)
    return f"{scheme}://{hosts.rpartition('@')[2]}{path}"


async def open_connection(connection: AbstractConnection, timeout_s: float) -> None:
    """Connect within `timeout_s`, greetings included."""
    async with asyncio.timeout(timeout_s):
        with told_as_broken():
            await connection.connect()  # type: ignore[no-untyped-call]


async def say(connection: AbstractConnection, *command: str | bytes | int) -> None:
    """Send one command over an open connection."""
    with told_as_broken():
        await connection.send_command(*command, check_health=False)


@contextmanager
def told_as_broken() -> Iterator[None]:
    """What is written after the transport was closed meets a broken connection, no defect.

    uvloop's transports raise RuntimeError then. It must not end whoever keeps the connection: that one makes it anew.
    """
    try:
        yield
    except RuntimeError as error:
        raise redis_errors.ConnectionError(f"the connection was closed: {error}") from error


def abort_connection(connection: AbstractConnection) -> None:
    """Break an open connection from outside, as the network would: who reads from it, and who writes, is told.

    (redis-py's own `disconnect` leaves a connection that opens again, and sends, when the next command is written.)
    """
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()


def connector(url: str, timeout_s: float) -> Connect:
    """How to connect to the one server at `url`.

    Raises:
        StoreUnusable: An URL that isn't one, or one of several servers.
    """
    address = parse(url)
    if address.kind != "server":
        raise StoreUnusable(f"{url.partition('://')[0]}:// names several servers: here is room for one")
    return address.to(address.hosts[0], timeout_s) if address.hosts else address.to_socket(timeout_s)


def parse(url: str) -> Address:
    """What `url` says.

    Raises:
        StoreUnusable: An URL that isn't one.
    """
    scheme, hosts, path, query = _split(url)
    kind = _KINDS.get(scheme)
    if kind is None:
        known = ", ".join(f"{one}://" for one in _KINDS)
        raise StoreUnusable(f"a Redis URL begins with one of {known}, not {scheme[:32]!r}")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        _check_options(kind, scheme, options)
        login, _, hosts = hosts.rpartition("@")
        user, _, password = map(unquote, login.partition(":"))
        if scheme == "unix":
            return _socket(hosts, unquote(path), options, _login(user, password))
        parts = [unquote(part) for part in path.split("/")[1:] if part]
        service = parts.pop(0) if kind == "sentinel" and parts else ""
        if kind == "sentinel" and not service:
            raise ValueError("the Sentinels' name for the primary is missing, as in redis+sentinel://host:26379/mymaster")
        return Address(
            kind=kind,
            hosts=tuple(_server(one, _PORTS[kind]) for one in hosts.split(",")),
            path="",
            service=service,
            db=_db(kind, parts, options),
            login=_login(user, password),
            sentinel_login=_login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
            tls=_tls(options) if scheme.startswith("rediss") else None,
        )
    except ValueError as error:
        raise StoreUnusable(f"the Redis URL {shown(url)} can't be read: {error}") from None


def _split(url: str) -> tuple[str, str, str, str]:
    """Scheme, login and hosts, path, options. (`urlsplit` takes several hosts in brackets for none.)"""
    scheme, _, rest = url.partition("://")
    head, _, query = rest.partition("?")
    hosts, slash, path = head.partition("/")
    return scheme, hosts, slash + path, query


def _socket(hosts: str, path: str, options: dict[str, str], login: dict[str, str]) -> Address:
    if hosts or path in ("", "/"):
        raise ValueError("the path of a Unix socket is the whole of it, as in unix:///run/redis.sock")
    return Address("server", (), path, "", _db("server", [], options), login, {}, None)


def _check_options(kind: Kind, scheme: str, options: dict[str, str]) -> None:
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"there is no option {name!r}; there are {', '.join(OPTIONS)}")
        if name in _TLS_OPTIONS and not scheme.startswith("rediss"):
            raise ValueError(f"{name} is for TLS: begin the URL with {scheme.replace('redis', 'rediss', 1)}://")
        if name in _SENTINEL_OPTIONS and kind != "sentinel":
            raise ValueError(f"{name} is for redis+sentinel:// alone")


def _db(kind: Kind, path: list[str], options: dict[str, str]) -> int:
    text = options.get("db", path[0] if path else "0")
    if len(path) > 1 or not (text.isascii() and text.isdecimal()):
        raise ValueError(f"the database is a number, not {text[:32]!r}")
    if kind == "cluster" and int(text):
        raise ValueError("a cluster has database 0 alone")
    return int(text)


def _server(text: str, default: int) -> Server:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if colon not in ("", ":"):
            raise ValueError(f"{text[:64]!r} is no host and port")
    else:
        host, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError(f"{port[:32]!r} is no port")
    return Server(host or "localhost", int(port) if colon else default)


def _login(user: str, password: str) -> dict[str, str]:
    said = {"username": user, "password": password}
    return {name: value for name, value in said.items() if value}


def _tls(options: dict[str, str]) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {name: options[name] for name in _TLS_OPTIONS if name in options}
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ValueError(f"{name}: there is no file {options[name]}")
    if found.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise ValueError("ssl_cert_reqs is required or none")
    check = str(found.get("ssl_check_hostname", "true")).lower()
    if check not in ("true", "false"):
        raise ValueError("ssl_check_hostname is true or false")
    return found | {"ssl_check_hostname": check == "true" and found.get("ssl_cert_reqs") != "none"}
