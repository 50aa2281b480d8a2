"""The clients of the demonstration: each follows the job over its own connection, and notes what it sees."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from time import monotonic

from orbit.cli.demo.checks import Arrival, Seen
from orbit.client import Client, End, Reset, Update

SABOTAGE = "ORBIT_DEMO_SABOTAGE"
"""`drop-update`: one update is dropped on its way to the second client, so that a test sees the demonstration fail."""
DROPPED_CHUNK = 20


class Watcher:
    """One client.

    Args:
        urls: The edges; it begins with the first.
        began_s: The moment that `Arrival.at_s` counts from, by the monotonic clock.
        on_news: Called after everything that it sees.
    """

    def __init__(
        self, name: str, urls: Sequence[str], began_s: float, on_news: Callable[[], None], *, dropping: bool
    ) -> None:
        self.name = name
        self.seen = Seen()
        self._client = Client(urls, shuffle=False)
        self._began_s = began_s
        self._on_news = on_news
        self._dropping = dropping
        self._news = asyncio.Event()

    @property
    def chunk(self) -> int:
        """The newest chunk that it has heard of."""
        return self.seen.arrivals[-1].data["chunk"] if self.seen.arrivals else 0

    async def watch(self, tx: str) -> None:
        """Follow to the end."""
        async with self._client as client, aclosing(client.events(tx)) as events:
            async for event in events:
                self._note_edge(client.edge)
                if isinstance(event, Update):
                    self._take(event)
                elif isinstance(event, Reset):
                    self.seen.resets += 1
                elif isinstance(event, End):
                    self.seen.status, self.seen.result = event.status, event.result
                self._tell()

    async def until(self, chunk: int) -> None:
        """Wait until it has heard of this chunk."""
        while self.chunk < chunk:
            self._news.clear()
            await self._news.wait()

    def _take(self, event: Update) -> None:
        if self._dropping and event.data["chunk"] == DROPPED_CHUNK:
            return
        self.seen.arrivals.append(Arrival(monotonic() - self._began_s, event.cursor, event.data))

    def _note_edge(self, url: str | None) -> None:
        if url is not None and self.seen.edges[-1:] != [url]:
            self.seen.edges.append(url)

    def _tell(self) -> None:
        self._news.set()
        self._on_news()


def watchers(urls: Sequence[str], began_s: float, on_news: Callable[[], None]) -> list[Watcher]:
    """Two clients, on two different edges; each knows the other's, too."""
    sabotage = os.environ.get(SABOTAGE) == "drop-update"
    orders = [list(urls), list(reversed(urls))]
    return [
        Watcher(f"client {n}", order, began_s, on_news, dropping=sabotage and n == 2)
        for n, order in enumerate(orders, 1)
    ]
