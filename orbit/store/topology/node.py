"""One server, and the connections to it that all callers share.

One connection carries what writes, another what only reads, so that a long page of a log holds up no commit. Where
acknowledgements wait, what is acknowledged goes over a third, which the waits hold up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from orbit.store.address import Connect
from orbit.store.durability import Durability
from orbit.store.keeping import Keeping
from orbit.store.pipe import Pipe


class Node:
    """A server that is spoken to.

    Attributes:
        name: Its address, for messages.
        connect: Makes a connection of its own to it.
        keeping: Where acknowledgements wait: the way of what is acknowledged.
    """

    def __init__(self, name: str, connect: Connect, timeout_s: float, on_again: Callable[[], None]) -> None:
        """`on_again`: called whenever a connection was made again."""
        self.name = name
        self.connect = connect
        self.writing = Pipe(connect, timeout_s, on_again)
        self.reading = Pipe(connect, timeout_s, on_again)
        self.keeping: Keeping | None = None
        self._timeout_s = timeout_s
        self._on_again = on_again
        self._acknowledging: Pipe | None = None

    async def keep(self, durability: Durability) -> None:
        """From now on what is acknowledged waits for this."""
        if self.keeping is not None:
            await self.keeping.close()
        self.begin_to_keep(durability)

    def begin_to_keep(self, durability: Durability) -> None:
        """As `keep`, where nothing was kept before."""
        self._acknowledging = self.keeping = None
        if durability.waits:
            self._acknowledging = Pipe(self.connect, self._timeout_s, self._on_again)
            self.keeping = Keeping(self._acknowledging, durability, self._timeout_s)

    @property
    def idle(self) -> bool:
        """Nothing that it was asked is unanswered."""
        return all(pipe.idle for pipe in self._pipes())

    def renew(self) -> None:
        """Break the connections: another server may be there by now."""
        for pipe in self._pipes():
            pipe.renew()

    def _pipes(self) -> Iterable[Pipe]:
        return (one for one in (self.writing, self.reading, self._acknowledging) if one is not None)

    async def close(self) -> None:
        await asyncio.gather(self.writing.close(), self.reading.close())
        if self.keeping is not None:
            await self.keeping.close()
