"""A client of server-sent events, as a browser's EventSource is one, that goes on where it was.

Written from the public page and the HTML standard alone; it imports nothing of Orbit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx

RETRY_S = 0.1


class EventClient:
    """Follows one transaction to its end, over however many connections.

    Attributes:
        updates: Cursor and data of each update, in the order that they came.
        times: When each came.
        breaks: How many connections ended before the end was told.
        trouble: What came and shouldn't have.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, tx: str) -> None:
        self.updates: list[tuple[str, Any]] = []
        self.times: list[float] = []
        self.breaks = 0
        self.trouble: list[str] = []
        self.end: dict[str, Any] | None = None
        self._http = http
        self._url = f"{url}/v1/transactions/{tx}/events"
        self._last_id = ""
        self._session: str | None = None
        self._more = asyncio.Condition()
        self._task = asyncio.create_task(self._follow())

    async def until(self, count: int) -> None:
        """Return when so many updates have come, or the end."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.updates) >= count or self.end is not None or self._task.done())
        if self._task.done():
            self._task.result()

    async def ended(self) -> None:
        await self._task

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while self.end is None:
            with contextlib.suppress(httpx.HTTPError):
                await self._read()
            if self.end is None:
                self.breaks += 1
                await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        query = {"session": self._session} if self._session else {}
        async with self._http.stream("GET", self._url, headers=headers, params=query, timeout=30) as response:
            if response.status_code != 200:
                if response.status_code not in (502, 503, 504):
                    self.trouble.append(f"status {response.status_code}")
                return
            seen, data = self._last_id, ""
            async for line in response.aiter_lines():
                name, _, value = line.partition(":")
                if name == "id":
                    seen = value.removeprefix(" ")
                elif name == "data":
                    data += value.removeprefix(" ")
                elif not line:
                    self._last_id = seen
                    if data:
                        await self._take(json.loads(data))
                    data = ""

    async def _take(self, message: dict[str, Any]) -> None:
        async with self._more:
            match message["type"]:
                case "attached":
                    self._session = message["session"]
                case "update":
                    self.updates.append((message["cursor"], message["data"]))
                    self.times.append(asyncio.get_running_loop().time())
                case "end":
                    self.end = message
                case _:
                    self.trouble.append(str(message))
            self._more.notify_all()
