"""What is said on a connection, and the line that it is said on: each knows the other by these alone."""

from __future__ import annotations

from typing import Any, Protocol

from orbit.edge.attachment import Attachment
from orbit.edge.follower import Sink


class Line(Sink, Protocol):
    """The connection, as what is said on it sees it."""

    id: str

    @property
    def address(self) -> str | None:
        """Who is counted for what it asks."""

    @property
    def closed(self) -> bool: ...
    def close(self, code: int, reason: str = "") -> None: ...
    def take_more(self) -> None:
        """There may be room for more of what the client said."""


class Conversation(Protocol):
    """What is said, as the connection sees it."""

    @property
    def attachments(self) -> dict[str, Attachment]: ...
    @property
    def full(self) -> bool:
        """So much was taken and isn't answered yet that no more is to be read."""

    def read(self, payload: bytes, *, text: bool) -> list[Any]:
        """What the client said in one frame, each part for `receive`.

        Raises:
            ProtocolError: It can't be read at all.
        """

    def receive(self, message: Any) -> None:
        """Take one part; its answer comes in its own time."""

    def go_away(self, reconnect_after_ms: int) -> None:
        """The edge is leaving."""

    def leave(self) -> None:
        """The connection is gone: its sessions leave their places."""
