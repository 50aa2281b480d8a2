"""Redis URLs: what they say, and what is wrong with those that say nothing."""

from __future__ import annotations

import pytest

from orbit.errors import StoreUnusable
from orbit.store.address import Server, connector, parse, shown


def test_one_server() -> None:
    address = parse("redis://us%40er:p%2Fw@host:7000/3")
    assert (address.kind, address.hosts, address.db) == ("server", (Server("host", 7000),), 3)
    assert address.login == {"username": "us@er", "password": "p/w"}
    assert address.tls is None


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://", [("localhost", 6379)]),
        ("redis://host", [("host", 6379)]),
        ("redis://[::1]:7000", [("::1", 7000)]),
        ("redis://[::1]", [("::1", 6379)]),
        ("redis+sentinel://a,b:7000/name", [("a", 26379), ("b", 7000)]),
        ("redis+cluster://a,[::1]:7000,b", [("a", 6379), ("::1", 7000), ("b", 6379)]),
    ],
)
def test_hosts(url: str, hosts: list[tuple[str, int]]) -> None:
    assert list(parse(url).hosts) == hosts


def test_a_password_alone() -> None:
    assert parse("redis://:secret@host").login == {"password": "secret"}
    assert parse("redis://user@host").login == {"username": "user"}


def test_a_socket() -> None:
    address = parse("unix://user:pw@/run/my%20redis.sock?db=2")
    assert (address.path, address.db, address.hosts) == ("/run/my redis.sock", 2, ())
    assert address.login == {"username": "user", "password": "pw"}


def test_sentinels() -> None:
    url = "redis+sentinel://user:pw@a:1,b:2/my%20primary/4?sentinel_username=s&sentinel_password=t"
    address = parse(url)
    assert (address.kind, address.service, address.db) == ("sentinel", "my primary", 4)
    assert address.login == {"username": "user", "password": "pw"}
    assert address.sentinel_login == {"username": "s", "password": "t"}


def test_tls() -> None:
    for scheme in ("rediss", "rediss+cluster"):
        assert parse(f"{scheme}://host").tls == {"ssl_check_hostname": True}
    address = parse("rediss+sentinel://host/name?ssl_cert_reqs=none")
    assert address.tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    assert parse("rediss://host?ssl_check_hostname=false").tls == {"ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "begins with"),
        ("localhost:6379", "begins with"),
        ("http://localhost", "begins with"),
        ("redis//x", "begins with"),
        ("redis://h:port", "is no port"),
        ("redis://h:0", "is no port"),
        ("redis://h:65536", "is no port"),
        ("redis://[::1]7000", "no host and port"),
        ("redis://h/x", "the database is a number"),
        ("redis://h/1/2", "the database is a number"),
        ("redis://h/?db=x", "the database is a number"),
        ("redis://h?socket_timeout=1", "no option 'socket_timeout'"),
        ("redis://h?ssl_ca_certs=x", "begin the URL with rediss://"),
        ("redis+cluster://h?ssl_cert_reqs=none", "begin the URL with rediss+cluster://"),
        ("redis://h?sentinel_password=x", "redis+sentinel:// alone"),
        ("rediss://h?ssl_cert_reqs=maybe", "required or none"),
        ("rediss://h?ssl_check_hostname=maybe", "true or false"),
        ("redis+sentinel://h:1", "name for the primary is missing"),
        ("redis+sentinel://h:1/name/x", "the database is a number"),
        ("redis+cluster://h:1/1", "database 0 alone"),
        ("unix://host/path", "the path of a Unix socket"),
        ("unix://", "the path of a Unix socket"),
    ],
)
def test_what_is_no_address(url: str, says: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        parse(url)
    assert says in str(caught.value)


def test_no_password_is_shown() -> None:
    url = "redis+sentinel://user:pass@h:1/name?sentinel_password=pass&what=x"
    with pytest.raises(StoreUnusable) as caught:
        parse(url)
    assert "pass" not in str(caught.value).replace("sentinel_password", "")
    assert shown(url) == "redis+sentinel://h:1/name"


def test_several_servers_are_no_one_server() -> None:
    with pytest.raises(StoreUnusable, match="several servers"):
        connector("redis+cluster://h:1", 1)


def test_a_server_as_it_is_written() -> None:
    assert str(Server("h", 1)) == "h:1"
    assert str(Server("::1", 1)) == "[::1]:1"
