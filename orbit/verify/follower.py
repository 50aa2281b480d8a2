"""One transaction as one client follows it: resumes, numbers messages, sends again, gives up.

Everything here follows the public page; nothing is shared with Orbit's own client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orbit.verify.codec import Message
from orbit.verify.trace import LogEntry, entry_of

if TYPE_CHECKING:
    from orbit.verify.client import WireClient

RETRYABLE = frozenset({"unavailable", "overloaded", "rate_limited", "internal"})
PASSING = RETRYABLE | {"out_of_order", "replaced"}
"""Codes of a `rejected` without cursor after which the same message is sent again."""
STEADY_S = 60.0
"""A client that was attached for so long since it was replaced may be replaced once more."""


class GaveUp(Exception):
    """A client waits for what can't come any more: it follows the transaction no longer."""


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
        refused: Mids that the State or the end refused: their codes; refusals: what these messages said, and the code.
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
    refusals: list[tuple[Any, str]] = field(default_factory=list)
    lost: list[Any] = field(default_factory=list)
    unsendable: list[tuple[Any, str]] = field(default_factory=list)
    end: Message | None = None
    gave_up: str | None = None
    replaced: int = 0
    attached_at: float | None = None
    _again: bool = False
    _due: bool = False
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
        """Return when the condition holds; raises GaveUp once the follower has given up before that."""
        while not condition(self):
            if self.gave_up is not None:
                raise GaveUp(f"{self.client.trace.name}: gave up: {self.gave_up}")
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
        self._again = self._due = False
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
        if self._due:
            self._retransmit()  # what it waited for may just have been answered

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
            self.refusals.append((self.stored.get(message["mid"]), message["code"]))
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
        self._due = True
        if self.attached and not any(item.flying for item in self.queue):
            self._again = self._due = False
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

    def forgive(self) -> None:
        """Given up because it was replaced by attaches of its own that came late: the person at it tries again."""
        if self.gave_up == "replaced":
            self.gave_up = None
            self.replaced = 0
            self._attach_again()

    def _attach_again(self) -> None:
        idle = not self.attached and not self.asked and self.end is None and self.gave_up is None
        if idle and self.client.link is not None:
            self.client.say(self.attach_message())
