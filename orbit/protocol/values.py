"""Values: what may stand as `data`, `view` or `result`, and their packed form.

JSON values plus bytes: text keys, integers within signed 64 bits, no NaN or infinity, no lone surrogates, nested at
most `nesting` deep. Packed they are MessagePack, which is what Redis holds and what limits of size count.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final, cast

import msgpack

from orbit.config import MIB
from orbit.errors import BadRequest, TooLarge
from orbit.protocol.messages import Value

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
NESTING: Final = 100
"""How many lists and objects a value may hold inside one another."""

_FREE = frozenset({bool, type(None), bytes})
_pack = cast(Callable[[Any], bytes], msgpack.Packer(autoreset=True).pack)


class _Flaw(Exception):
    """What is wrong with a value; `path` is filled from the inside out while it is raised."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def check_value(value: object, *, nesting: int = NESTING, what: str = "data") -> None:
    """Return if `value` may be sent.

    Args:
        nesting: The deepest nesting allowed.
        what: How the error calls the value.

    Raises:
        BadRequest: naming the place inside the value and the reason, never the value itself.
    """
    try:
        _check(value, nesting)
    except _Flaw as flaw:
        raise BadRequest(f"{what}{_place(flaw.path)}: {flaw.reason}") from None


def pack(value: object, *, limit_bytes: int = MIB, nesting: int = NESTING, what: str = "data") -> bytes:
    """Check `value` and pack it.

    Raises:
        BadRequest: as `check_value`.
        TooLarge: naming the packed size and the limit.
    """
    check_value(value, nesting=nesting, what=what)
    return pack_checked(value, limit_bytes=limit_bytes, what=what)


def pack_checked(value: Value, *, limit_bytes: int = MIB, what: str = "data") -> bytes:
    """Pack a value that came out of a codec, and so was checked before.

    Raises:
        TooLarge: naming the packed size and the limit.
    """
    packed = _pack(value)
    if len(packed) > limit_bytes:
        raise TooLarge(f"{what}: {len(packed)} bytes packed; the limit is {limit_bytes}")
    return packed


def unpack(packed: bytes) -> Value:
    """The value of packed bytes that Orbit wrote.

    Raises:
        BadRequest: They are no packed value.
    """
    try:
        return msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        raise BadRequest(f"no packed value: {type(error).__name__}") from None


def is_text(value: object) -> bool:
    """Whether `value` is a str that UTF-8 can hold."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(value: Any, room: int) -> None:
    kind = type(value)
    if kind in _FREE:
        return
    if kind is str:
        if not is_text(value):
            raise _Flaw("text with a lone surrogate")
    elif kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise _Flaw("an integer past signed 64 bits")
    elif kind is float:
        if not isfinite(value):
            raise _Flaw("NaN or infinity")
    elif kind is dict or kind is list:
        _check_inside(value, room)
    else:
        _check_kin(value, room)


def _check_inside(value: dict[Any, Any] | list[Any] | tuple[Any, ...], room: int) -> None:
    if not room:
        raise _Flaw("nested too deep")
    if isinstance(value, dict):
        for key in value:
            if not is_text(key):
                raise _Flaw("a key that is no text")
        members: Any = value.items()
    else:
        members = enumerate(value)
    for name, member in members:
        try:
            _check(member, room - 1)
        except _Flaw as flaw:
            flaw.path.append(name if isinstance(name, str) else f"[{name}]")
            raise


def _check_kin(value: object, room: int) -> None:
    """Subclasses of the plain types, tuples and bytearrays: they pack as what they are kin to."""
    if isinstance(value, dict | list | tuple):
        _check_inside(value, room)
    elif isinstance(value, int):
        _check(int(value), room)
    elif isinstance(value, float):
        _check(float(value), room)
    elif isinstance(value, str):
        _check(str.__str__(value), room)
    elif not isinstance(value, bytes | bytearray):
        raise _Flaw(f"a {type(value).__name__} is neither a JSON value nor bytes")


def _place(path: list[str]) -> str:
    """`.a[0].b`, at most a few steps and a few characters of each."""
    steps = [step if step.startswith("[") else "." + step[:40] for step in reversed(path)]
    text = "".join(steps[:8]) + ("..." if len(steps) > 8 else "")
    return text.encode(errors="replace").decode()
