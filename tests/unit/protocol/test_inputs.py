"""Inputs against published schemas."""

from __future__ import annotations

import json

import pytest

from orbit.errors import BadRequest, TooLarge
from orbit.protocol.inputs import SHOWN_ERRORS, FieldError, body_digest, check_input, field_errors, unknown_state

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 3},
            "name": {"type": "string", "pattern": "^a+$"},
            "many": {"type": "array", "items": {"$ref": "#/$defs/One"}},
            "blob": {"type": "string", "format": "base64url"},
        },
        "required": ["n"],
        "$defs": {"One": {"type": "object", "properties": {"k": {"enum": ["x"]}}, "required": ["k"]}},
    }
)


def test_an_input_that_fits_becomes_the_first_snapshot() -> None:
    assert check_input("S", SCHEMA, {"n": 3, "blob": b"\xff\xfe"}) == b'{"n":3,"blob":"__4="}'


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({}, [FieldError("n", "is missing")]),
        ({"n": "secret"}, [FieldError("n", 'the value is not of type "integer"')]),
        ({"n": 2}, [FieldError("n", "the value is less than the minimum of 3")]),
        ({"n": 3, "name": "secret"}, [FieldError("name", 'the value does not match "^a+$"')]),
        ({"n": 3, "many": [{"k": "x"}, {}]}, [FieldError("many.1.k", "is missing")]),
        ({"n": 3, "many": [{"k": "secret"}]}, [FieldError("many.0.k", 'the value is not one of "x"')]),
    ],
)
def test_errors_name_the_field_and_never_the_value(fields: dict[str, object], errors: list[FieldError]) -> None:
    assert list(field_errors(SCHEMA, fields)) == errors
    with pytest.raises(BadRequest) as raised:
        check_input("S", SCHEMA, fields)
    assert str(errors[0]) in str(raised.value)
    assert "secret" not in str(raised.value)


def test_only_so_many_errors_are_told() -> None:
    assert len(field_errors(SCHEMA, {"n": 3, "many": [{}] * 100})) == SHOWN_ERRORS


@pytest.mark.parametrize("fields", [None, [], "x", 1])
def test_an_input_is_an_object(fields: object) -> None:
    with pytest.raises(BadRequest, match="the input of S must be an object"):
        check_input("S", SCHEMA, fields)


@pytest.mark.parametrize("value", [float("nan"), 2**63, "\ud800", {1: 2}])
def test_an_input_holds_values_alone(value: object) -> None:
    with pytest.raises(BadRequest, match="input"):
        check_input("S", SCHEMA, {"n": 3, "more": value})


def test_an_input_has_a_limit() -> None:
    with pytest.raises(TooLarge, match="input: 29 bytes; the limit is 28"):
        check_input("S", SCHEMA, {"n": 3, "more": "x" * 12}, limit_bytes=28)


def test_a_hostile_pattern_takes_bounded_time() -> None:
    schema = json.dumps({"properties": {"a": {"type": "string", "pattern": "(?=a)(a+)+$"}}})
    assert field_errors(schema, {"a": "a" * 60 + "b"})
    assert field_errors(json.dumps({"properties": {"a": {"pattern": "^(a+)+$"}}}), {"a": "a" * 60 + "b"})


def test_a_digest_tells_starts_apart_and_nothing_else() -> None:
    one = body_digest("S", b'{"a":1,"b":[1,2]}')
    assert one == body_digest("S", b'{"b": [1, 2], "a": 1}', delay_s=0)
    others = [
        body_digest("T", b'{"a":1,"b":[1,2]}'),
        body_digest("S", b'{"a":1,"b":[2,1]}'),
        body_digest("S", b'{"a":1,"b":[1,2]}', delay_s=1),
        body_digest("S", b'{"a":1,"b":[1,2]}', at_ms=1),
        body_digest("S", b'{"a":1,"b":[1,2]}', queue="default"),
        body_digest("S", b'{"a":1,"b":[1,2]}', priority=1),
    ]
    assert len({one, *others}) == 7


def test_an_unknown_state_is_answered_with_those_that_are_known() -> None:
    assert "known: A, B" in str(unknown_state("C", ["B", "A"]))
    assert "no worker has run yet" in str(unknown_state("C", []))
