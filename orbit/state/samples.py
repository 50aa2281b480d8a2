"""A State's definition, tried out before any transaction depends on it.

What can't be told from types alone (a validator that changes its own output) is found with sample inputs, drawn from
the State's own JSON Schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation, PydanticUserError

from orbit.errors import DefinitionError
from orbit.state.base import State
from orbit.state.roundtrip import flaw_of
from orbit.state.snapshots import from_input

_ROUNDS = 12
_DEPTH = 6
_FORMATS: dict[str, list[Any]] = {
    "date-time": ["2031-02-03T04:05:06Z", "2031-02-03T04:05:06.789+05:30"],
    "date": ["2031-02-03"],
    "time": ["04:05:06"],
    "duration": ["PT90S"],
    "uuid": ["6f0f6c5e-3c1e-4b8e-9d57-0d7a4f3f5a11"],
    "uri": ["https://example.org/a?b=c"],
    "email": ["someone@example.org"],
    "ipv4": ["192.0.2.7"],
    "ipv6": ["2001:db8::7"],
    "base64url": ["AAEC"],
    "binary": ["AAEC"],
}


def check_definition(cls: type[State]) -> dict[str, Any]:
    """The JSON Schema of the State's input.

    Raises:
        DefinitionError: One line naming State and field: a type that has no JSON form, a field excluded inside another
            one, a value that doesn't come back from a snapshot.
    """
    schema = _schema(cls)
    _check_excluded(cls)
    for instance in _instances(cls, schema):
        flaw = flaw_of(instance)
        if flaw is not None:
            name, why = flaw
            raise DefinitionError(f"{cls.__name__}{'.' if name else ''}{name}: doesn't round-trip: {why}")
    return schema


def _schema(cls: type[State]) -> dict[str, Any]:
    try:
        cls.model_rebuild()
        return cls.model_json_schema(mode="validation")
    except PydanticUndefinedAnnotation as error:
        raise DefinitionError(f"{cls.__name__}: {error.name!r} isn't defined") from None
    except PydanticUserError as error:
        name = _without_schema(cls) if isinstance(error, PydanticInvalidForJsonSchema) else ""
        reason = str(error).splitlines()[0]
        raise DefinitionError(f"{cls.__name__}{'.' if name else ''}{name}: has no JSON form: {reason}") from None


def _without_schema(cls: type[State]) -> str:
    for name, field in cls.model_fields.items():
        annotation: Any = field.annotation
        try:
            TypeAdapter[Any](annotation, config={"arbitrary_types_allowed": True}).json_schema()
        except PydanticUserError:
            return name
    return ""


def _check_excluded(cls: type[State]) -> None:
    for path in _excluded(cls.__pydantic_core_schema__, ()):
        raise DefinitionError(f"{cls.__name__}.{'.'.join(path)}: an excluded field would be lost in a snapshot")


def _excluded(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The places of fields that pydantic leaves out when it writes."""
    if isinstance(schema, list):
        for part in schema:
            yield from _excluded(part, path)
    if not isinstance(schema, dict):
        return
    if schema.get("serialization_exclude") or schema.get("serialization_exclude_if"):
        yield path
    for key, part in schema.items():
        if key == "fields" and isinstance(part, dict):
            for name, field in part.items():
                yield from _excluded(field, (*path, name))
        elif key == "fields" and isinstance(part, list):
            for field in part:
                yield from _excluded(field, (*path, str(field.get("name", "?"))))
        elif key not in ("metadata", "default", "cls", "function"):
            yield from _excluded(part, path)


def _instances(cls: type[State], schema: dict[str, Any]) -> Iterator[State]:
    """States built from sample inputs: as many as validate within some rounds."""
    properties: dict[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    pools = {name: list(islice(_samples(part, schema, 0), 8)) for name, part in properties.items()}
    if all(pools[name] for name in required):
        yield from _whole(cls, pools, required)


def _whole(cls: type[State], pools: dict[str, list[Any]], required: set[str]) -> Iterator[State]:
    turn = dict.fromkeys(pools, 0)
    dropped: set[str] = set()
    for _ in range(_ROUNDS):
        sample = {name: pool[turn[name] % len(pool)] for name, pool in pools.items() if pool and name not in dropped}
        try:
            yield from_input(cls, json.dumps(sample).encode())
            failed = set(pools)
        except ValidationError as error:
            failed = {str(part["loc"][0]) for part in error.errors(include_url=False) if part["loc"]} or set(pools)
        except Exception:  # a validator's own trouble with a sample says nothing about the State
            failed = set(pools)
        for name in failed & set(pools):
            turn[name] += 1
            if failed != set(pools) and turn[name] >= len(pools[name]) and name not in required:
                dropped.add(name)  # no sample pleases its validators: go on without it


def _samples(schema: Any, root: dict[str, Any], depth: int) -> Iterator[Any]:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return
    if "$ref" in schema:
        yield from _samples(root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2]), root, depth + 1)
    elif "const" in schema:
        yield schema["const"]
    elif "enum" in schema:
        yield from schema["enum"]
    elif choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        parts = [list(islice(_samples(choice, root, depth + 1), 4)) for choice in choices]
        for at in range(4):
            yield from (part[at] for part in parts if at < len(part))
    else:
        yield from _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Iterator[Any]:
    kind = schema.get("type")
    if kind == "string":
        yield from _texts(schema)
    elif kind in ("integer", "number"):
        yield from _numbers(schema, whole=kind == "integer")
    elif kind == "boolean":
        yield from (True, False)
    elif kind == "null":
        yield None
    elif kind == "array":
        yield from _arrays(schema, root, depth)
    elif kind == "object":
        yield from _objects(schema, root, depth)
    elif kind is None:
        yield from ("Sample", 3, None)


def _texts(schema: dict[str, Any]) -> Iterator[str]:
    known = _FORMATS.get(schema.get("format", ""))
    if known:
        yield from known
        return
    low, high = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    for text in ("Sample", " padded Text ", "a", "7", "1.5", "/tmp/a.txt", ""):
        yield (text * (low // max(len(text), 1) + 1) if len(text) < low else text)[:high]


def _numbers(schema: dict[str, Any], *, whole: bool) -> Iterator[float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1)
    base = [3, 1, 8, 0, -2] if low is None else [low + 3 * step, low + step, low, low + 8 * step]
    if low is None and high is not None:
        base = [high - 3 * step, high - step, high]
    yield from (number if step == 1 else number // step * step for number in base)
    if not whole:
        yield from (number + 0.25 for number in base)


def _arrays(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Iterator[list[Any]]:
    if "prefixItems" in schema:
        firsts = [next(_samples(item, root, depth + 1), None) for item in schema["prefixItems"]]
        yield firsts
        return
    items = list(islice(_samples(schema.get("items", {}), root, depth + 1), 4))
    low = schema.get("minItems", 0)
    yield (items * (low + 1))[: max(low, 2)]
    yield (items * (low + 1))[: max(low, 1)]
    if not low:
        yield []


def _objects(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    properties: dict[str, Any] = schema.get("properties", {})
    if properties:
        pools = {name: list(islice(_samples(part, root, depth + 1), 3)) for name, part in properties.items()}
        for at in range(3):
            yield {name: pool[at % len(pool)] for name, pool in pools.items() if pool}
        return
    inner = schema.get("additionalProperties")
    values = list(islice(_samples(inner if isinstance(inner, dict) else {}, root, depth + 1), 3))
    for value in values:
        yield {"a": value}
    yield {}
