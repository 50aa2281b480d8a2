"""Where replies of Redis begin and end in a stream of bytes, and which are published messages. Sans-I/O."""

from __future__ import annotations

_LINES = frozenset(b"+-:,#_(")
_BULKS = frozenset(b"$=!")
_LISTS = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}
_PUSHES = tuple(
    start + kind for start in (b"*3\r\n", b">3\r\n") for kind in (b"$7\r\nmessage\r\n", b"$8\r\nsmessage\r\n")
)


class Replies:
    """Cuts a stream into whole replies. It has to begin where a reply begins."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The replies that are whole now; what is left waits for more."""
        self._rest += data
        found, at = [], 0
        while (end := _end(self._rest, at)) is not None:
            found.append(self._rest[at:end])
            at = end
        self._rest = self._rest[at:]
        return found


def is_published(reply: bytes) -> bool:
    """Whether a reply is a message of pub/sub (and not the answer to a command or a subscription)."""
    return reply.startswith(_PUSHES)


def _end(data: bytes, at: int) -> int | None:
    """Where the reply that begins at `at` ends; None where it isn't all there."""
    wanted = 1
    while wanted:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        kind, wanted = data[at], wanted - 1
        size = data[at + 1 : line]
        at = line + 2
        if kind in _BULKS:
            at += int(size) + 2 if int(size) >= 0 else 0
        elif kind in _LISTS:
            wanted += max(int(size), 0) * _LISTS[kind]
        elif kind not in _LINES:
            raise ValueError(f"not a reply of Redis: {data[at : at + 40]!r}")
        if at > len(data):
            return None
    return at
