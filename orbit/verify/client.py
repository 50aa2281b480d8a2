"""An independent client of the WebSocket protocol, written from its public page alone. It imports nothing of Orbit.

`WireClient` keeps a connection to one of several edges and goes on elsewhere when it breaks; a `Follower` of it follows
one transaction with one session. Everything is recorded in a `Trace`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from orbit.verify.codec import Message
from orbit.verify.follower import Follower
from orbit.verify.link import Link
from orbit.verify.trace import Trace

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 1.0


class WireClient:
    """A client with several edges to choose from. `run` keeps it connected until it is cancelled or told to `stop`."""

    def __init__(
        self, urls: Sequence[str], *, codec: str = "json", name: str = "client", rng: random.Random | None = None
    ) -> None:
        self.urls = list(urls)
        self.codec = codec
        self.rng = rng or random.Random()
        self.trace = Trace(name)
        self.followers: dict[str, Follower] = {}
        self.options: dict[str, Any] = {}
        self.reader: Callable[[Link], Awaitable[list[Message]]] = Link.read
        self.link: Link | None = None
        self.goaways: list[Message] = []
        self.closes: list[int] = []
        self.failure: BaseException | None = None
        self.on_entry: Callable[[Follower, Message], None] = _ignore
        self.away_until = self.stalled_until = 0.0
        self._at = self.rng.randrange(len(self.urls))
        self._connections = 0
        self._outgoing: asyncio.Queue[list[Message]] = asyncio.Queue()
        self._pulse = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def follow(self, tx: str, *, session: str | None = None, after: str = "0") -> Follower:
        """Follow `tx`, with a session drawn here unless `session` says which (`""`: the edge issues one)."""
        chosen = secrets.token_urlsafe(24) if session is None else (session or None)
        follower = self.followers[tx] = Follower(self, tx, chosen, after)
        if self.link is not None:
            self.say(follower.attach_message())
        return follower

    async def __aenter__(self) -> WireClient:
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def hop(self, *, rude: bool) -> None:
        """Leave the present edge for another one, by a clean close or without a word (`rude`)."""
        self._at += self.rng.randrange(1, len(self.urls)) if len(self.urls) > 1 else 0
        if self.link is None:
            return
        if rude:
            self.link.abort()
        else:
            asyncio.ensure_future(self.link.ws.close())  # noqa: RUF006 - the reader sees its end

    def leave(self, seconds: float) -> None:
        """Be off the network for so long."""
        self.away_until = self.now() + seconds
        if self.link is not None:
            self.link.abort()

    def stall(self, seconds: float) -> None:
        """Read nothing for so long, with the connection open."""
        self.stalled_until = self.now() + seconds

    async def stop(self) -> None:
        """Close the connection and end `run`."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        if self.link is not None:
            await self.link.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.failure is not None:
            raise self.failure

    # ---- for followers

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def say(self, *messages: Message) -> None:
        """Send soon, in one frame; dropped with the connection."""
        if messages:
            self._outgoing.put_nowait(list(messages))

    def later(self, delay_s: float, do: Callable[[], None]) -> None:
        handle: asyncio.TimerHandle

        def fire() -> None:
            self._timers.discard(handle)
            do()
            self._changed()

        handle = asyncio.get_running_loop().call_later(delay_s, fire)
        self._timers.add(handle)

    def backoff_s(self, attempt: int) -> float:
        """Exponential with full jitter."""
        return self.rng.uniform(0, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10)))

    def changed(self) -> Coroutine[Any, Any, Any]:
        """To be awaited: returns when something has come in since the call (not: since the await)."""
        if self.failure is not None:
            raise self.failure
        return self._pulse.wait()

    def _changed(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()

    # ---- the connection

    async def run(self) -> None:
        """Connect, follow, reconnect; ends when stopped or when a close code says not to come back."""
        attempt = 0
        while not self._stopping:
            try:
                await self._connect()
                attempt = 0
                await self._converse()
            except (OSError, InvalidHandshake, ConnectionClosed, EOFError):
                pass
            except Exception as error:
                self.failure = error
                self._changed()
                raise
            if self._forget_connection():
                return
            attempt += 1
            await asyncio.sleep(max(self.backoff_s(attempt), self.away_until - self.now()))

    async def _connect(self) -> None:
        self._connections += 1
        url = self.urls[self._at % len(self.urls)]
        self._at += 1
        self.link = await Link.open(url, self.codec, trace=self.trace, number=self._connections, **self.options)
        self._at -= 1
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
        self.say(*self._attaches())

    def _attaches(self) -> Iterator[Message]:
        for follower in self.followers.values():
            if follower.end is None and follower.gave_up is None:
                yield follower.attach_message()

    async def _converse(self) -> None:
        assert self.link is not None
        speaking = asyncio.create_task(self._speak(self.link))
        try:
            while True:
                await asyncio.sleep(max(0.0, self.stalled_until - self.now()))
                for message in await self.reader(self.link):
                    self._on_message(message)
                self._changed()
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(self, link: Link) -> None:
        while True:
            messages = await self._outgoing.get()
            await link.send(*messages)

    def _on_message(self, message: Message) -> None:
        if message["type"] == "goaway":
            self.goaways.append(message)
            self.later(message["reconnect_after_ms"] / 1000, lambda: self.hop(rude=False))
        elif (follower := self.followers.get(message.get("tx", ""))) is not None:
            follower.on_message(message)
            if message["type"] in ("update", "reset", "end"):
                self.on_entry(follower, message)

    def _forget_connection(self) -> bool:
        """Note the close; True where it says not to come back."""
        for follower in self.followers.values():
            follower.disconnected()
        if self.link is None:
            return False
        link, self.link = self.link, None
        link.over()
        code = link.ws.close_code or 1006
        self.closes.append(code)
        if 4400 <= code <= 4499:
            for follower in self.followers.values():
                follower.gave_up = follower.gave_up or f"closed with {code}"
        self._changed()
        return 4400 <= code <= 4499


def _ignore(_follower: Follower, _message: Message) -> None:
    pass
