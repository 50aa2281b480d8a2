"""An independent client of the WebSocket protocol, written from its public page alone. It imports nothing of Orbit.

`Link` is one connection and says whatever it is told to. `WireClient` keeps a connection to one of several edges and
goes on elsewhere when it breaks; a `Follower` of it follows one transaction with one session: it resumes by cursor,
numbers its messages, sends again what isn't stored, and gives up where the page says so. Everything is recorded in a
`Trace`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from tests.support.trace import LogEntry, Trace, entry_of
from tests.support.wire_codec import CODECS, Codec, Message

RETRYABLE = frozenset({"unavailable", "overloaded", "rate_limited", "internal"})
PASSING = RETRYABLE | {"out_of_order", "replaced"}
"""Codes of a `rejected` without cursor after which the same message is sent again."""
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 1.0
STEADY_S = 60.0
"""A client that was attached for so long since it was replaced may be replaced once more."""


def ws_url(base: str) -> str:
    """The WebSocket's URL of an edge, from the URL that its ready line names."""
    return base.replace("http", "ws", 1).rstrip("/") + "/v1/ws"


class Link:
    """One connection. `got` yields messages one by one; what is sent and got goes into `trace`."""

    def __init__(self, ws: ClientConnection, codec: Codec, trace: Trace, number: int) -> None:
        self.ws = ws
        self.codec = codec
        self.trace = trace
        self.number = number
        self.closed = False

    @classmethod
    async def open(
        cls, base: str, codec: str = "json", *, trace: Trace | None = None, number: int = 0, **options: Any
    ) -> Link:
        """Connect to the edge at `base` (`http://host:port`). `options` go to websockets' `connect`."""
        chosen = CODECS[codec]
        settings: dict[str, Any] = {
            "subprotocols": [Subprotocol(chosen.subprotocol)],
            "compression": None,
            "max_size": None,
            "ping_interval": None,
            "proxy": None,
            "close_timeout": 1,
        }
        ws = await connect(ws_url(base), **{**settings, **options})
        assert ws.subprotocol == chosen.subprotocol, f"the edge chose {ws.subprotocol!r}"
        link = cls(ws, chosen, trace or Trace("link"), number)
        link._record("open", {"url": base})
        return link

    def _record(self, what: Any, message: Message) -> None:
        self.trace.add(asyncio.get_running_loop().time(), self.number, what, message)

    async def send(self, *messages: Message) -> None:
        """One frame: a single message, or an array of several."""
        for message in messages:
            self._record("sent", message)
        await self.ws.send(self.codec.dump(messages[0] if len(messages) == 1 else list(messages)))

    async def read(self) -> list[Message]:
        """The messages of the next frame. Raises ConnectionClosed once the connection is over."""
        try:
            frame = await self.ws.recv()
        except ConnectionClosed:
            self._over()
            raise
        messages = self.codec.load(frame)
        for message in messages:
            self._record("got", message)
        return messages

    async def expect(self, *types: str, tx: str | None = None) -> Message:
        """The next message of one of these types (for `tx`, if given); others are recorded and passed over."""
        while True:
            for message in await self.read():
                if message["type"] in types and tx in (None, message.get("tx")):
                    return message

    def _over(self) -> None:
        if not self.closed:
            self.closed = True
            code, reason = self.ws.close_code, self.ws.close_reason
            self._record("closed", {"code": 1006 if code is None else code, "reason": reason or ""})

    async def close(self) -> None:
        await self.ws.close()
        self._over()

    def abort(self) -> None:
        """Break the connection without a word, as a network does."""
        self.ws.transport.abort()


@dataclass(slots=True)
class Outgoing:
    """A message on its way. `flying`: copies without an answer on the present connection; `sent`: it ever had one."""

    mid: int
    data: Any
    flying: int = 0
    sent: bool = False


@dataclass(slots=True)
class Follower:
    """One session in one transaction, across connections.

    Attributes:
        entries: What it got since the start or the last reset, in order.
        stored: Mids that the deployment has confirmed, and what they said.
        refused: Mids that the State or the end refused: their codes.
        lost: Messages of unknown fate after a rewind; unsendable: what the edge will never store, with the code.
        gave_up: Why it doesn't follow any more, if it doesn't.
    """

    client: WireClient
    tx: str
    session: str | None
    cursor: str = "0"
    attached: bool = False
    asked: int = 0
    status: str | None = None
    entries: list[LogEntry] = field(default_factory=list)
    resets: list[Message] = field(default_factory=list)
    advances: int = 0
    queue: list[Outgoing] = field(default_factory=list)
    next_mid: int = 1
    stored: dict[int, Any] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    lost: list[Any] = field(default_factory=list)
    unsendable: list[tuple[Any, str]] = field(default_factory=list)
    end: Message | None = None
    gave_up: str | None = None
    replaced: int = 0
    attached_at: float | None = None
    _again: bool = False
    _attempts: int = 0

    # ---- what a test does with it

    @property
    def updates(self) -> list[Any]:
        """The data of all updates since the start or the last reset."""
        return [entry.body for entry in self.entries if entry.kind == "update"]

    def send(self, data: Any) -> int:
        """Queue a message for the State; returns its mid. It is sent as soon and as often as needed."""
        item = Outgoing(self.next_mid, data)
        self.next_mid += 1
        self.queue.append(item)
        if self.attached and not self._again:
            self._transmit([item])
        return item.mid

    async def until(self, condition: Callable[[Follower], Any]) -> None:
        """Return when the condition holds; raises AssertionError once the follower has given up before that."""
        while not condition(self):
            assert self.gave_up is None, f"{self.client.trace.name}: gave up: {self.gave_up}"
            await self.client.changed()

    async def until_stored(self) -> None:
        """Return when nothing is on its way any more."""
        await self.until(lambda _: not self.queue)

    # ---- what the client tells it

    def attach_message(self) -> Message:
        self.asked += 1
        self.attached = False
        message: Message = {"type": "attach", "tx": self.tx, "after": self.cursor}
        if self.session is not None:
            message["session"] = self.session
        return message

    def disconnected(self) -> None:
        self.attached = False
        self.asked = 0
        self._again = False
        for item in self.queue:
            item.flying = 0

    def on_message(self, message: Message) -> None:
        match message["type"]:
            case "attached":
                self._on_attached(message)
            case "receipt":
                self._answered(message["mid"])
                self._on_stored(message["mid"])
            case "rejected" if "cursor" not in message:
                self._on_not_stored(message)
            case "error":
                self._on_error(message)
            case "update" | "rejected" | "advance" | "reset" | "end" if self.attached:
                self._on_entry(message)

    def _on_attached(self, message: Message) -> None:
        self.asked -= 1
        if self.asked:
            return
        self.session = message["session"]
        self.cursor = message["cursor"]
        self.status = message["status"]
        self.attached = True
        self.attached_at = self.client.now()
        self._attempts = 0
        self._on_last_mid(message["last_mid"])
        self._retransmit()

    def _on_entry(self, message: Message) -> None:
        self.cursor = message["cursor"]
        if message["type"] == "reset":
            self.resets.append(message)
            self.entries.clear()
            self._on_last_mid(message["last_mid"])
        elif message["type"] == "advance":
            self.advances += 1
        elif (entry := entry_of(message)) is not None:
            self.entries.append(entry)
        if message["type"] == "rejected":
            self._on_stored(message["mid"])
            self.refused[message["mid"]] = message["code"]
        if message["type"] == "end":
            self.end = message
            self.attached = False

    # ---- messages of its own

    def _transmit(self, items: Sequence[Outgoing]) -> None:
        for item in items:
            item.flying += 1
            item.sent = True
        self.client.say(*({"type": "send", "tx": self.tx, "mid": item.mid, "data": item.data} for item in items))

    def _retransmit(self) -> None:
        """Send everything that isn't stored, in order, once no copy is without its answer."""
        if self.attached and not any(item.flying for item in self.queue):
            self._again = False
            if self.queue:
                self._transmit(self.queue)

    def _later(self, retry_after_ms: int | None) -> None:
        self._again = True
        self.client.later(self._backoff(retry_after_ms), self._retransmit)

    def _backoff(self, retry_after_ms: int | None = None) -> float:
        self._attempts += 1
        return (retry_after_ms or 0) / 1000 + self.client.backoff_s(self._attempts)

    def _find(self, mid: int) -> Outgoing | None:
        return next((item for item in self.queue if item.mid == mid), None)

    def _answered(self, mid: int) -> None:
        if (item := self._find(mid)) is not None:
            item.flying = max(0, item.flying - 1)

    def _on_stored(self, mid: int) -> None:
        if (item := self._find(mid)) is not None:
            self.stored[mid] = item.data
        self.queue = [item for item in self.queue if item.mid != mid]

    def _on_last_mid(self, last_mid: int) -> None:
        """What is stored by the deployment's word. Below a receipt: what was sent since is of unknown fate."""
        if self.stored and last_mid < max(self.stored):
            self.lost += [data for mid, data in self.stored.items() if mid > last_mid]
            self.lost += [item.data for item in self.queue if item.sent and item.mid > last_mid]
            self.stored = {mid: data for mid, data in self.stored.items() if mid <= last_mid}
            self.queue = [item for item in self.queue if not item.sent or item.mid <= last_mid]
            self._renumber(last_mid)
        for item in tuple(self.queue):
            if item.mid <= last_mid:
                self._on_stored(item.mid)

    def _renumber(self, last_mid: int) -> None:
        later = [item for item in self.queue if item.mid > last_mid]
        for mid, item in enumerate(later, last_mid + 1):
            item.mid = mid
            item.flying = 0
        self.next_mid = last_mid + 1 + len(later)

    def _on_not_stored(self, message: Message) -> None:
        self._answered(message["mid"])
        item = self._find(message["mid"])
        if item is None:
            return
        if message["code"] not in PASSING:
            self.unsendable.append((item.data, message["code"]))
            self.queue.remove(item)
            if not any(other.flying for other in self.queue):
                self._renumber(item.mid - 1)
        self._later(message.get("retry_after_ms"))

    # ---- errors

    def _on_error(self, message: Message) -> None:
        code, op = message["code"], message.get("op")
        if op == "send":
            self._answered(message["mid"])
            self._later(message.get("retry_after_ms"))
        elif op == "attach":
            self.asked -= 1
            if code in RETRYABLE:
                self.client.later(self._backoff(message.get("retry_after_ms")), self._attach_again)
            else:
                self.gave_up = code
        elif op is None:
            self.attached = False
            self._on_detached(code)

    def _on_detached(self, code: str) -> None:
        if code == "replaced":
            self.replaced += 1
            steady = self.attached_at is not None and self.client.now() - self.attached_at >= STEADY_S
            if self.replaced > 1 and not steady:
                self.gave_up = "replaced"
                return
            self.replaced = 1
        elif code not in RETRYABLE:
            self.gave_up = code
            return
        self.client.later(self._backoff(), self._attach_again)

    def _attach_again(self) -> None:
        idle = not self.attached and not self.asked and self.end is None and self.gave_up is None
        if idle and self.client.link is not None:
            self.client.say(self.attach_message())


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
            await asyncio.sleep(self.backoff_s(attempt))

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

    def _forget_connection(self) -> bool:
        """Note the close; True where it says not to come back."""
        for follower in self.followers.values():
            follower.disconnected()
        if self.link is None:
            return False
        link, self.link = self.link, None
        link._over()
        code = link.ws.close_code or 1006
        self.closes.append(code)
        if 4400 <= code <= 4499:
            for follower in self.followers.values():
                follower.gave_up = follower.gave_up or f"closed with {code}"
        self._changed()
        return 4400 <= code <= 4499
