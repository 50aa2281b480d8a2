"""Replies are cut where they end, however the bytes come in, and published messages are told from the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit.verify.resp import Replies, is_published

PUBLISHED = b"*3\r\n$8\r\nsmessage\r\n$4\r\nlive\r\n$6\r\n*1\r\n+x\r\n"
"""Its payload looks like a reply itself."""
REPLIES = [
    b"+OK\r\n", b"-ERR no\r\n", b":12\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$5\r\n\r\n$1\r\r\n", b"*-1\r\n", b"*0\r\n",
    b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", b"%1\r\n+a\r\n*1\r\n:1\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", PUBLISHED,
    b"*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", b"_\r\n", b"=5\r\ntxt:x\r\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(REPLIES)), st.data())
def test_cut_where_they_end_however_they_come(replies: list[bytes], data: st.DataObject) -> None:
    stream, found = b"".join(replies), []
    made = Replies()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += made.feed(stream[:size])
        stream = stream[size:]
    assert found == replies


def test_what_is_published() -> None:
    assert [reply for reply in REPLIES if is_published(reply)] == [REPLIES[10], PUBLISHED]


def test_what_is_no_reply() -> None:
    with pytest.raises(ValueError, match="not a reply of Redis"):
        Replies().feed(b"HTTP/1.1 200 OK\r\n")
