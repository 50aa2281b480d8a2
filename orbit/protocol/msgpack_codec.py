"""MessagePack on the WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import msgpack

from orbit.errors import ProtocolError
from orbit.protocol.codec import Codec
from orbit.protocol.messages import Value
from orbit.protocol.values import check_value
from orbit.protocol.wire import ReadValue

_packer = msgpack.Packer(autoreset=True)
_pack = cast(Callable[[Any], bytes], _packer.pack)
_FIXMAP = 0x80


def _checked(raw: object) -> Value:
    check_value(raw)
    return raw


def _no_value(code: int, data: bytes) -> object:
    """What stands for an extension type: nothing that a value may hold."""
    return object()


class MsgpackCodec(Codec):
    """`orbit.v1.msgpack`: binary frames."""

    name: ClassVar[str] = "msgpack"
    subprotocol: ClassVar[str] = "orbit.v1.msgpack"
    text: ClassVar[bool] = False

    def _parse(self, frame: str | bytes) -> tuple[object, ReadValue]:
        # Text that isn't UTF-8 comes out with lone surrogates, so that it spoils its own message alone. Keys that are
        # numbers spoil the frame: a map of them can be made to take quadratic time.
        try:
            raw = msgpack.unpackb(frame, unicode_errors="surrogateescape", strict_map_key=True, ext_hook=_no_value)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolError(f"not MessagePack with text keys: {type(error).__name__}") from None
        return raw, _checked

    def together(self, payloads: Sequence[bytes]) -> bytes:
        head: bytes = _packer.pack_array_header(len(payloads))
        return head + b"".join(payloads)

    def _write_value(self, value: Value) -> object:
        return value

    def _write(self, raw: dict[str, Any]) -> bytes:
        return _pack(raw)

    def _splice(self, raw: dict[str, Any], name: str, packed: bytes) -> bytes:
        head = _pack(raw)
        return b"%c%b%b%b" % (_FIXMAP + len(raw) + 1, head[1:], _pack(name), packed)


MSGPACK = MsgpackCodec()
