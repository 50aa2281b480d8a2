"""What error replies say about where a command belongs, as redis-py hands them on."""

from __future__ import annotations

import pytest
from redis._parsers.base import BaseParser

from orbit.store.address import Server
from orbit.store.topology.redirects import Ask, Later, Moved, redirect_of


@pytest.mark.parametrize(
    ("reply", "means"),
    [
        ("MOVED 3999 127.0.0.1:6381", Moved(3999, Server("127.0.0.1", 6381))),
        ("MOVED 3999 :6381", Moved(3999, Server("", 6381))),
        ("MOVED 3999 ::1:6381", Moved(3999, Server("::1", 6381))),
        ("ASK 1 host:7000", Ask(1, Server("host", 7000))),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Later("TRYAGAIN")),
        ("CLUSTERDOWN The cluster is down", Later("CLUSTERDOWN")),
        ("READONLY You can't write against a read only replica.", Later("READONLY")),
        ("MASTERDOWN Link with MASTER is down", Later("MASTERDOWN")),
        ("LOADING Redis is loading the dataset in memory", Later("LOADING")),
        ("CROSSSLOT Keys in request don't hash to the same slot", None),
        ("OOM command not allowed when used memory > 'maxmemory'.", None),
        ("ERR unknown command", None),
        ("NOPERM this user has no permissions", None),
    ],
)
def test_what_a_reply_means(reply: str, means: object) -> None:
    assert redirect_of(BaseParser.parse_error(reply)) == means
