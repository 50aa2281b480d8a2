"""What is wanted on one connection, what was asked for, and what Redis has confirmed. Plain bookkeeping, no I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Channel:
    """`asked`: SSUBSCRIBEs without a reply yet. It is confirmed when the last of them has been answered.

    So a channel that was dropped and wanted again counts as confirmed only by the newer request's reply.
    """

    handler: Callable[[bytes], None] | None
    asked: int = 0
    dropped: int = 0
    subscribed: bool = False
    waiting: set[asyncio.Future[None]] = field(default_factory=set)


class Subscriptions:
    """The channels on one connection."""

    def __init__(self, on_confirmed: Callable[[str], None] = lambda name: None) -> None:
        """`on_confirmed`: told of each that is wanted and confirmed."""
        self._on_confirmed = on_confirmed
        self._channels: dict[str, _Channel] = {}
        self._unconfirmed: set[str] = set()
        self._to_add: dict[str, None] = {}
        self._to_drop: dict[str, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many are wanted."""
        return self._count

    @property
    def all_confirmed(self) -> bool:
        return not self._unconfirmed

    def add(self, name: str, handler: Callable[[bytes], None]) -> asyncio.Future[None]:
        """Want a channel; the future is done when it is confirmed."""
        channel = self._channels.setdefault(name, _Channel(None))
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if channel.handler is None:
            self._count += 1
            if name in self._to_drop:
                del self._to_drop[name]
            else:
                self._to_add[name] = None
        channel.handler = handler
        if channel.subscribed:
            confirmation.set_result(None)
            self._on_confirmed(name)
        else:
            self._unconfirmed.add(name)
            channel.waiting.add(confirmation)
            confirmation.add_done_callback(channel.waiting.discard)
        return confirmation

    def drop(self, name: str) -> None:
        """Want it no more. Who still waits for its confirmation goes on waiting no longer."""
        channel = self._channels.get(name)
        if channel is None or channel.handler is None:
            return
        channel.handler = None
        self._count -= 1
        self._unconfirmed.discard(name)
        if name in self._to_add:
            del self._to_add[name]
        else:
            self._to_drop[name] = None
        for confirmation in tuple(channel.waiting):
            if not confirmation.done():
                confirmation.set_result(None)
        self._tidy(name, channel)

    def to_send(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(channels to subscribe to, channels to leave), to be sent now: to leave first."""
        add, drop = tuple(self._to_add), tuple(self._to_drop)
        self._to_add.clear()
        self._to_drop.clear()
        for name in drop:
            self._channels[name].dropped += 1
            self._channels[name].subscribed = False
        for name in add:
            self._channels[name].asked += 1
        return add, drop

    def confirmed(self, name: str) -> None:
        """The reply to an SSUBSCRIBE."""
        channel = self._channels.get(name)
        if channel is None or not channel.asked:
            return
        channel.asked -= 1
        if channel.asked or channel.handler is None or name in self._to_add:
            return
        channel.subscribed = True
        self._unconfirmed.discard(name)
        for confirmation in tuple(channel.waiting):
            if not confirmation.done():
                confirmation.set_result(None)
        self._on_confirmed(name)

    def released(self, name: str) -> bool:
        """The reply to an SUNSUBSCRIBE; False where nobody asked for it."""
        channel = self._channels.get(name)
        if channel is None or not channel.dropped:
            return False
        channel.dropped -= 1
        self._tidy(name, channel)
        return True

    def deliver(self, name: str, payload: bytes) -> None:
        channel = self._channels.get(name)
        if channel is not None and channel.handler is not None:
            channel.handler(payload)

    def names(self) -> tuple[str, ...]:
        """All that are wanted, or on their way out."""
        return tuple(self._channels)

    def forget(self, name: str) -> None:
        """The server has none such any more, and answers nothing more about it."""
        self._channels.pop(name, None)
        self._unconfirmed.discard(name)
        self._to_add.pop(name, None)
        self._to_drop.pop(name, None)

    def _tidy(self, name: str, channel: _Channel) -> None:
        if channel.handler is None and not channel.asked and not channel.dropped and name not in self._to_drop:
            self._channels.pop(name, None)
