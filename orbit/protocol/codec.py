"""What a codec is: frames to messages and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from orbit.errors import ProtocolError
from orbit.protocol import wire
from orbit.protocol.entries import Failure
from orbit.protocol.messages import ClientMessage, EdgeMessage, Malformed, Value


class Codec(ABC):
    """One subprotocol of `/v1/ws`.

    Attributes:
        name: As `/v1/info` names it.
        subprotocol: As the handshake names it.
        text: Whether its frames are text frames.
    """

    name: ClassVar[str]
    subprotocol: ClassVar[str]
    text: ClassVar[bool]

    def decode_client(self, frame: str | bytes, *, text: bool | None = None) -> list[ClientMessage | Malformed]:
        """What a client said in one frame, each message judged alone.

        Args:
            frame: A frame's payload; its size is the caller's to limit.
            text: Whether it came as a text frame. None: a str did, bytes didn't.

        Raises:
            ProtocolError: The frame can't be read at all: close with 4400. Nothing else is ever raised.
        """
        parsed, read_value = self._read(frame, text)
        return [wire.read_client(raw, read_value) for raw in wire.split(parsed)]

    def decode_edge(self, frame: str | bytes, *, text: bool | None = None) -> list[EdgeMessage]:
        """What an edge said in one frame. Messages of a type that this version doesn't know are left out.

        Raises:
            ProtocolError: The frame, or a message in it, means nothing.
        """
        parsed, read_value = self._read(frame, text)
        messages = [wire.read_edge(raw, read_value) for raw in wire.split(parsed)]
        return [message for message in messages if message is not None]

    def encode(self, message: EdgeMessage) -> bytes:
        """One message of an edge as a frame's payload. Its values were checked before."""
        return self._write(wire.write(message, self._write_value))

    def encode_client(self, message: ClientMessage) -> bytes:
        """One message of a client as a frame's payload. Its values were checked before."""
        return self._write(wire.write(message, self._write_value))

    def encode_update(self, tx: str, cursor: str, data: bytes) -> bytes:
        """An `update` whose data is packed."""
        return self._splice({"type": "update", "tx": tx, "cursor": cursor}, "data", data)

    def encode_reset(self, tx: str, cursor: str, reason: str, view: bytes | None, last_mid: int) -> bytes:
        """A `reset` whose view is packed; None: the State has none."""
        head = {"type": "reset", "tx": tx, "cursor": cursor, "reason": reason, "last_mid": last_mid}
        return self._write({**head, "view": None}) if view is None else self._splice(head, "view", view)

    def encode_end(self, tx: str, cursor: str, status: str, result: bytes | None, error: Failure | None) -> bytes:
        """An `end` whose result is packed; None: there is none."""
        head: dict[str, Any] = {"type": "end", "tx": tx, "cursor": cursor, "status": status}
        if error is not None:
            head["error"] = {"type": error.type, "message": error.message}
        return self._write(head) if result is None else self._splice(head, "result", result)

    @abstractmethod
    def together(self, payloads: Sequence[bytes]) -> bytes:
        """Several messages, each encoded, as the payload of one frame."""

    def _read(self, frame: str | bytes, text: bool | None) -> tuple[object, wire.ReadValue]:
        came_as_text = isinstance(frame, str) if text is None else text
        if came_as_text is not self.text:
            raise ProtocolError(f"{self.subprotocol} has {'text' if self.text else 'binary'} frames")
        return self._parse(frame)

    @abstractmethod
    def _parse(self, frame: str | bytes) -> tuple[object, wire.ReadValue]:
        """The raw object of a frame, and what makes values of its parts; raises ProtocolError alone."""

    @abstractmethod
    def _write_value(self, value: Value) -> object:
        """The raw form of a value."""

    @abstractmethod
    def _write(self, raw: dict[str, Any]) -> bytes:
        """A raw object as a frame's payload."""

    @abstractmethod
    def _splice(self, raw: dict[str, Any], name: str, packed: bytes) -> bytes:
        """A raw object as a frame's payload, with one more field that is packed already."""
