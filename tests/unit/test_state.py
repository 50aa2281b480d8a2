"""How a State is written, what its definition refuses, and how its fields are written down and come back."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator

import orbit
from orbit import DefinitionError, State, UsageError
from orbit.state import bind, check_definition, encode, flaw_of, from_input, hooks_of, inside_step, rebuild


class Everything(State, stays_open=True):
    whole: int
    text: str = "é\n"
    data: bytes = b"\x00\xff\xfe"
    real: float = float("nan")
    big: float = float("inf")
    when: datetime.datetime = datetime.datetime(2031, 2, 3, tzinfo=datetime.UTC)
    span: datetime.timedelta = datetime.timedelta(days=1.5)
    id: uuid.UUID = uuid.UUID(int=7)
    path: Path = Path("/tmp/a")
    pair: tuple[int, bytes] = (1, b"x")
    some: set[int] = Field(default={7, 15})
    """Comes back from a snapshot in the other order."""
    by: dict[int, float] = Field(default={1: 2.5})
    anything: Any = None
    kind: Literal["a", "b"] = "a"
    bounded: Annotated[int, Field(gt=5, lt=9)] = 6
    _cache: list[int] = PrivateAttr(default_factory=list)


def test_fields_come_back_from_a_snapshot() -> None:
    state = Everything(whole=-(2**80))
    state._cache.append(1)
    snapshot = encode(state)
    again = rebuild(Everything, snapshot)
    before, after = (re.sub(rb"\[(7,15|15,7)\]", b"{7,15}", written) for written in (snapshot, encode(again)))
    assert before == after
    assert again.some == state.some
    assert again.data == state.data
    assert again.pair == state.pair
    assert again.big == state.big
    assert again._cache == []
    assert flaw_of(state) is None
    assert check_definition(Everything)["properties"]["whole"] == {"title": "Whole", "type": "integer"}


class Aliased(State, stays_open=True):
    inner: int = Field(alias="outer")


def test_input_comes_by_alias_or_name_and_snapshots_by_name() -> None:
    assert from_input(Aliased, b'{"outer": 1}').inner == from_input(Aliased, b'{"inner": 1}').inner == 1  # type: ignore[attr-defined, unused-ignore]
    assert encode(from_input(Aliased, b'{"outer": 1}')) == b'{"inner":1}'
    check_definition(Aliased)


def test_what_can_not_be_written_down_is_an_error_that_names_it() -> None:
    state = Everything(whole=1)
    state.whole = "x"  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"Everything.*whole"):
        encode(state)
    state = Everything(whole=1, anything=object())
    with pytest.raises(UsageError, match="Everything"):
        encode(state)


# ---- definitions


def no_run() -> type[State]:
    class NoRun(State):
        pass

    return NoRun


def excluded() -> type[State]:
    class Excluded(State, stays_open=True):
        gone: int = Field(default=0, exclude=True)

    return Excluded


class Inner(BaseModel):
    gone: int = Field(default=0, exclude=True)


def excluded_inside() -> type[State]:
    class Excluded(State, stays_open=True):
        inner: list[Inner]

    return Excluded


def changing() -> type[State]:
    class Changing(State, stays_open=True):
        fine: int
        doubled: int

        @field_validator("doubled")
        @classmethod
        def double(cls, value: int) -> int:
            return value * 2

    return Changing


def growing() -> type[State]:
    class Growing(State, stays_open=True):
        name: str

        @field_validator("name")
        @classmethod
        def grow(cls, value: str) -> str:
            return f"dear {value}"

    return Growing


def secret() -> type[State]:
    class Secret(State, stays_open=True):
        key: SecretStr

    return Secret


def callable_field() -> type[State]:
    class Called(State, stays_open=True):
        fn: Callable[[], int]

    return Called


class Thing:
    pass


def arbitrary() -> type[State]:
    class Arbitrary(State, stays_open=True):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Thing

    return Arbitrary


def taken() -> type[State]:
    class Taken(State, stays_open=True):
        view: str

    return Taken


def wrong_hook() -> type[State]:
    class Wrong(State, stays_open=True):
        async def on_update(self, connection: Any) -> None: ...

    return Wrong


def async_view() -> type[State]:
    class Wrong(State, stays_open=True):
        async def view(self) -> None: ...

    return Wrong


def yielding() -> type[State]:
    class Wrong(State):
        async def run(self) -> Any:
            yield 1

    return Wrong


def bad_queue() -> type[State]:
    class Bad(State, stays_open=True, queue="a b"):
        pass

    return Bad


def bad_retries() -> type[State]:
    class Bad(State, stays_open=True, retries=-1):
        pass

    return Bad


def bad_timeout() -> type[State]:
    class Bad(State, stays_open=True, timeout_s=0):
        pass

    return Bad


@pytest.mark.parametrize(
    ("define", "text"),
    [
        (no_run, "NoRun: it has no run"),
        (excluded, "Excluded.gone: an excluded field"),
        (excluded_inside, "Excluded.inner.gone: an excluded field"),
        (changing, "Changing.doubled: doesn't round-trip"),
        (growing, "Growing.name: doesn't round-trip"),
        (secret, "Secret.key: doesn't round-trip"),
        (callable_field, "Called.fn: has no JSON form"),
        (arbitrary, "Arbitrary.thing: has no JSON form"),
        (taken, "Taken.view: a field can't have this name"),
        (wrong_hook, "Wrong.on_update: must take (self, connection, data)"),
        (async_view, "Wrong.view: view must be a plain def"),
        (yielding, "Wrong.run: a hook can't yield"),
        (bad_queue, "Bad: queue='a b'"),
        (bad_retries, "Bad: retries=-1"),
        (bad_timeout, "Bad: timeout_s=0"),
    ],
)
def test_a_state_that_can_not_work_is_refused_in_one_line(define: Callable[[], type[State]], text: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        check_definition(define())
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)


class Settled(State, stays_open=True):
    """Validators that change their input, but not their own output, are fine."""

    name: str
    level: int = Field(ge=3)

    @field_validator("name")
    @classmethod
    def strip(cls, value: str) -> str:
        return value.strip().lower()


def test_a_validator_that_settles_is_fine() -> None:
    assert check_definition(Settled)["required"] == ["name", "level"]


class Base(State, stays_open=True, queue="slow", version=3):
    pass


class Derived(Base):
    def view(self) -> None: ...

    async def on_update(self, connection: Any, data: Any) -> None: ...


def test_options_are_inherited_but_the_name() -> None:
    options = Derived.__orbit__
    assert (options.name, options.queue, options.version, options.stays_open) == ("Derived", "slow", 3, True)
    assert hooks_of(Derived) == {"view", "on_update"}
    assert hooks_of(Base) == set()


# ---- the object


def test_without_a_worker_there_is_no_transaction() -> None:
    with pytest.raises(UsageError, match="no worker runs this object"):
        _ = Everything(whole=1).transaction


def test_a_step_assigns_no_field_of_its_own_state_but_others_may_be_built() -> None:
    bound, free = Settled(name="a", level=3), Settled(name="a", level=3)
    bind(bound, object())  # type: ignore[arg-type]
    token = inside_step.set(True)
    try:
        with pytest.raises(UsageError, match=r"Settled\.level: a step touches no fields"):
            bound.level = 4
        free.level = 4
    finally:
        inside_step.reset(token)
    bound.level = 5
    assert bound.level == 5


def test_what_leaves_a_run_is_outside_of_exception() -> None:
    assert not issubclass(orbit.Unloaded, Exception)


def test_the_package_gives_what_it_names() -> None:
    for name in orbit.__all__:
        assert getattr(orbit, name) is not None
    with pytest.raises(AttributeError):
        _ = orbit.Nothing  # type: ignore[attr-defined]
