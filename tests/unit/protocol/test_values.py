"""What may be sent, and what is said of what may not."""

from __future__ import annotations

import datetime
from enum import Enum, IntEnum
from typing import NamedTuple

import pytest

from orbit.errors import BadRequest, TooLarge
from orbit.protocol.values import INT_MAX, INT_MIN, NESTING, check_value, is_text, pack, unpack


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    __slots__ = ()


def nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 0, INT_MIN, INT_MAX, -0.5, "", "ü🎉", b"\x00\xff", [], {}, {"a": [1, {"b": None}]}, nested(NESTING)],
)
def test_values_come_back_as_they_were(value: object) -> None:
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    ("value", "back"),
    [((1, 2), [1, 2]), (Point(1, 2), [1, 2]), (Size.BIG, 3), (Text("a"), "a"), (bytearray(b"a"), b"a")],
)
def test_kin_of_the_plain_types_become_those(value: object, back: object) -> None:
    assert unpack(pack(value)) == back


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "NaN or infinity"),
        (float("-inf"), "NaN or infinity"),
        (INT_MAX + 1, "past signed 64 bits"),
        (INT_MIN - 1, "past signed 64 bits"),
        ("\ud800", "lone surrogate"),
        (Text("\ud800"), "lone surrogate"),
        ({1: 2}, "a key that is no text"),
        ({"\udfff": 2}, "a key that is no text"),
        (nested(NESTING + 1), "nested too deep"),
        (datetime.date(2020, 1, 1), "a date is neither a JSON value nor bytes"),
        (Colour.RED, "a Colour is neither"),
        ({1, 2}, "a set is neither"),
    ],
)
def test_what_cannot_be_sent_is_named(value: object, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as raised:
        pack(value)
    assert str(raised.value).startswith("data")


def test_a_flaw_is_found_where_it_is() -> None:
    with pytest.raises(BadRequest, match=r"^result\.a\[1\]\.b: NaN"):
        check_value({"a": [1, {"b": float("nan")}]}, what="result")


def test_a_place_is_never_long_and_never_broken_text() -> None:
    with pytest.raises(BadRequest) as raised:
        check_value({"k" * 5000: {"ü": nested(NESTING)}})
    assert len(str(raised.value)) < 120
    with pytest.raises(BadRequest) as raised:
        check_value({"a": {"\ud800": 1}})
    assert is_text(str(raised.value))


def test_a_circle_is_nested_too_deep() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(BadRequest, match="nested too deep"):
        pack(circle)


def test_a_value_too_large_is_told_with_size_and_limit() -> None:
    assert pack(b"x" * 8, limit_bytes=10)
    with pytest.raises(TooLarge, match="view: 11 bytes packed; the limit is 10"):
        pack(b"x" * 9, limit_bytes=10, what="view")


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x01\x02", b"\xa1\xff"])
def test_bytes_that_are_no_packed_value_are_refused(packed: bytes) -> None:
    with pytest.raises(BadRequest):
        unpack(packed)
