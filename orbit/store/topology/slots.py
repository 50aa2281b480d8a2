"""Which server holds which slot of a cluster, as it was told last. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orbit.store.address import Server
from orbit.store.keys import SLOTS

Range = tuple[int, int, Server]
"""First slot, last slot, and the primary that holds them."""


def ranges_of(reply: Sequence[Any], asked: Server) -> list[Range]:
    """What `asked` answered to CLUSTER SLOTS. A node that doesn't know its own address names none."""
    found = []
    for first, last, (host, port, *_), *_ in reply:
        name = host.decode() if isinstance(host, bytes) else ""
        if name != "?":
            found.append((int(first), int(last), Server(name or asked.host, int(port))))
    return found


class SlotMap:
    """A holder, or none, for each slot."""

    def __init__(self) -> None:
        self._holders: list[Server | None] = [None] * SLOTS

    @property
    def servers(self) -> tuple[Server, ...]:
        """All that hold a slot, in the order of their first."""
        return tuple(dict.fromkeys(one for one in self._holders if one is not None))

    def any(self) -> Server | None:
        """The holder of the first slot that has one."""
        return next((one for one in self._holders if one is not None), None)

    def holder(self, slot: int) -> Server | None:
        return self._holders[slot]

    def replace(self, ranges: Iterable[Range]) -> bool:
        """Learn all of it anew; whether anything is different."""
        before, self._holders = self._holders, [None] * SLOTS
        for first, last, server in ranges:
            self._holders[first : last + 1] = [server] * (last + 1 - first)
        return self._holders != before

    def move(self, slot: int, server: Server) -> bool:
        """Learn of one slot; whether that is different."""
        before, self._holders[slot] = self._holders[slot], server
        return before != server
