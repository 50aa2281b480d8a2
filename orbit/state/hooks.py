"""Which hooks a State has, and whether they are written as they must be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from orbit.errors import DefinitionError

HOOKS: dict[str, tuple[str, ...]] = {
    "run": (),
    "on_new_connection": ("connection",),
    "on_update": ("connection", "data"),
    "on_disconnect": ("connection",),
    "on_timer": ("name",),
    "on_cancel": (),
    "view": (),
}
"""The hooks and what each is called with."""


@lru_cache(maxsize=1_000)
def hooks_of(cls: type) -> frozenset[str]:
    """The names of the hooks that `cls` defines."""
    return frozenset(name for name in HOOKS if callable(getattr(cls, name, None)))


def check_hooks(cls: type, stays_open: bool) -> None:
    """Raise DefinitionError, one line, where a hook is no function of the right shape or `run` is missing."""
    found = hooks_of(cls)
    for name in found:
        _check_hook(cls, name, getattr(cls, name))
    if "run" not in found and not stays_open:
        raise DefinitionError(f"{cls.__name__}: it has no run: define one, or set stays_open=True")
    _check_migrate(cls)


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine: async functions, methods, their partials, objects with an async call."""
    while hasattr(fn, "func") and hasattr(fn, "args"):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def _check_hook(cls: type, name: str, hook: Callable[..., Any]) -> None:
    where = f"{cls.__name__}.{name}"
    wanted = HOOKS[name]
    if inspect.isgeneratorfunction(hook) or inspect.isasyncgenfunction(hook):
        raise DefinitionError(f"{where}: a hook can't yield")
    if name == "view" and is_async(hook):
        raise DefinitionError(f"{where}: view must be a plain def")
    try:
        inspect.signature(hook).bind(None, *wanted)
    except (TypeError, ValueError):
        raise DefinitionError(f"{where}: must take ({', '.join(('self', *wanted))})") from None


def migrates(cls: type) -> bool:
    """Whether `cls` can take over snapshots of its older versions."""
    return getattr(cls, "migrate", None) is not None


def _check_migrate(cls: type) -> None:
    where = f"{cls.__name__}.migrate"
    if not migrates(cls):
        return
    migrate = inspect.getattr_static(cls, "migrate")
    if not isinstance(migrate, classmethod) or is_async(migrate.__func__):
        raise DefinitionError(f"{where}: must be a plain classmethod")
    try:
        inspect.signature(cls.migrate).bind(1, {})  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise DefinitionError(f"{where}: must take (cls, version, fields)") from None
