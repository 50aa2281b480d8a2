"""`State`: a pydantic model whose fields are a transaction's input and all that survives of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

from orbit.config import KEEP_UPDATES, RetryPolicy, Timing
from orbit.errors import DefinitionError, UsageError
from orbit.state.hooks import HOOKS, check_hooks
from orbit.state.steps import inside_step
from orbit.state.verbs import Transaction

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    """The class options of a State.

    Attributes:
        name / queue: 1 to 64 characters of `A-Za-z0-9_.-`. The name is the class's where it isn't given.
        version: Of the snapshots; a worker takes over those of its own version.
        stays_open: The return of `run` doesn't finish the transaction; it goes on for its clients.
        retries: How often a `run` that raised is tried again before the transaction fails.
        backoff_s: The pause before the first of these, doubling up to a minute; None: the worker's, a second.
        timeout_s: How long the transaction may take from its first turn to its end; then it fails. None for no limit.
        turn_timeout_s: How long a turn may be held, without the steps and waits in it; then it counts as one that
            raised TimeoutError. A plain hook is stopped at its next verb. None for no limit.
        cancel_timeout_s: How long `on_cancel` may take.
        keep_updates: How many updates the log keeps.
        retain_s: How long the transaction is kept after its end.
        max_running: How many may be in their `run` at once, in the whole fleet; None for any number.
        rate_per_s: How many may begin their `run` in a second, in the whole fleet; None for any number.
        key: A field: the two limits are for each of its values then.
    """

    name: str
    queue: str = "default"
    version: int = 1
    stays_open: bool = False
    retries: int = RetryPolicy().retries
    backoff_s: float | None = None
    timeout_s: float | None = None
    turn_timeout_s: float | None = None
    cancel_timeout_s: float = 30.0
    keep_updates: int = KEEP_UPDATES
    retain_s: float = Timing().retain_s
    max_running: int | None = None
    rate_per_s: float | None = None
    key: str | None = None


class State(BaseModel):
    """Base of what workers run. `run` begins again from its top, on the fields of the last commit, after a crash,
    a hand-over or a deploy: write it for that.

    Fields hold whatever pydantic writes to JSON and reads back; private attributes are caches, made anew at a rollback.
    Hooks (`run`, `on_new_connection`, `on_update`, `on_disconnect`, `on_timer`, `on_cancel`, `view`, and the class
    method `migrate`) are optional, `async def` or plain `def`.

    Options stand in the class statement, see `Options`: `class Download(State, stays_open=True, retries=5): ...`

    Raises:
        DefinitionError: At the class statement, where the class can't work as it is written.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")

    __orbit__: ClassVar[Options]
    _transaction: Transaction | None = PrivateAttr(default=None)
    _context: Any = PrivateAttr(default=None)

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        queue: str | None = None,
        version: int | None = None,
        stays_open: bool | None = None,
        retries: int | None = None,
        backoff_s: float | None = None,
        timeout_s: float | None = None,
        turn_timeout_s: float | None = None,
        cancel_timeout_s: float | None = None,
        keep_updates: int | None = None,
        retain_s: float | None = None,
        max_running: int | None = None,
        rate_per_s: float | None = None,
        key: str | None = None,
        **config: Any,
    ) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(cls, **given: Any) -> None:
        super().__pydantic_init_subclass__()
        inherited = getattr(cls, "__orbit__", None) or Options(name="")
        chosen = {"name": cls.__name__} | {key: value for key, value in given.items() if value is not None}
        cls.__orbit__ = replace(inherited, **chosen)
        _check_options(cls.__name__, cls.__orbit__)
        _check_fields(cls)
        check_hooks(cls, cls.__orbit__.stays_open)

    if not TYPE_CHECKING:  # else every assignment would pass the type checker

        def __setattr__(self, name: str, value: Any) -> None:
            if inside_step.get() and name in type(self).model_fields and self._transaction is not None:
                where = f"{type(self).__name__}.{name}"
                raise UsageError(f"{where}: a step touches no fields: return the value, and assign it after the step")
            super().__setattr__(name, value)

    @property
    def transaction(self) -> Transaction:
        """The verbs. Raises UsageError where no worker runs this object."""
        if self._transaction is None:
            raise UsageError(f"{type(self).__name__}: no worker runs this object: it has no transaction")
        return self._transaction

    @property
    def context(self) -> Any:
        """What the worker's `orbit.lifespan` opened, the same for all its transactions; None where there is none."""
        return self._context


def _check_options(cls: str, options: Options) -> None:
    def fail(option: str, wanted: str) -> DefinitionError:
        return DefinitionError(f"{cls}: {option}={getattr(options, option)!r}: must be {wanted}")

    for option in ("name", "queue"):
        value = getattr(options, option)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise fail(option, "1 to 64 characters of A-Za-z0-9_.-")
    for option, least in (("version", 1), ("keep_updates", 1), ("retries", 0), ("max_running", 1)):
        value = getattr(options, option)
        if option == "max_running" and value is None:
            continue
        if type(value) is not int or value < least:
            raise fail(option, f"a whole number from {least} on")
    if type(options.stays_open) is not bool:
        raise fail("stays_open", "True or False")
    for option in ("retain_s", "backoff_s"):
        value = getattr(options, option)
        if not _is_number(value) and not (option == "backoff_s" and value is None):
            raise fail(option, "a number of seconds from 0 on")
    for option in ("timeout_s", "turn_timeout_s", "cancel_timeout_s", "rate_per_s"):
        value = getattr(options, option)
        if value is not None and not (_is_number(value) and value > 0):
            raise fail(option, "a number above 0")
    if options.key is not None and options.max_running is None and options.rate_per_s is None:
        raise fail("key", "given with max_running or rate_per_s, which it divides")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


_TAKEN = frozenset({*HOOKS, "migrate", "transaction", "context"})


def _check_fields(cls: type[State]) -> None:
    key = cls.__orbit__.key
    if key is not None and key not in cls.model_fields:
        raise DefinitionError(f"{cls.__name__}: key={key!r}: it has no such field")
    for name, field in cls.model_fields.items():
        if name in _TAKEN:
            raise DefinitionError(f"{cls.__name__}.{name}: a field can't have this name, which is Orbit's")
        if field.exclude or getattr(field, "exclude_if", None) is not None:
            raise DefinitionError(f"{cls.__name__}.{name}: an excluded field would be lost in a snapshot")
