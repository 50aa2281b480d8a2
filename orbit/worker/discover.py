"""From APP to the States in it, each tried out before any transaction depends on it, and what it gives beside them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from orbit.errors import DefinitionError
from orbit.state import Lifespan, Middleware, State, check_definition, hooks_of, migrates
from orbit.store.types import Spec, StateRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class App:
    """What an APP gives its workers: States, what is opened for them, and what is called around their code."""

    states: tuple[type[State], ...]
    lifespans: tuple[Lifespan, ...] = ()
    middleware: tuple[Middleware, ...] = ()


def load_app(app: str) -> App:
    """What stands in `app`: `module`, `module:State`, or a path to a `.py` file (`:State` may follow).

    Raises:
        DefinitionError: One line: it doesn't import, holds no State, or one that can't work as it is written.
    """
    place, _, only = app.partition(":")
    module = _from_file(Path(place), app) if place.endswith(".py") else _imported(place, app)
    found = _states_in(module)
    lifespans = _all_of(module, Lifespan)
    if len(lifespans) > 1:
        names = ", ".join(one.name for one in lifespans)
        raise DefinitionError(f"{app}: holds several lifespans ({names}): make one of them, which opens the others")
    if only:
        found = [cls for cls in found if only in (cls.__name__, cls.__orbit__.name)]
    if not found:
        raise DefinitionError(f"{app}: holds no State{f' {only}' if only else ''}")
    _check_names(app, found)
    for cls in found:
        check_definition(cls)
    return App(tuple(found), lifespans, _all_of(module, Middleware))


def _all_of(module: ModuleType, kind: type[T]) -> tuple[T, ...]:
    return tuple(value for value in vars(module).values() if isinstance(value, kind))


def record_of(cls: type[State]) -> StateRecord:
    """What is published of a State. Raises DefinitionError as `check_definition`."""
    options = cls.__orbit__
    return StateRecord(
        name=options.name,
        version=options.version,
        queue=options.queue,
        schema=json.dumps(check_definition(cls)),
        connection_hooks=bool(hooks_of(cls) & {"on_new_connection", "on_disconnect"}),
        keep_updates=options.keep_updates,
        retain_s=options.retain_s,
    )


def spec_of(cls: type[State]) -> Spec:
    options = cls.__orbit__
    return Spec(options.queue, options.name, options.version)


def queues_of(app: App, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The queues that a worker serves: those `wanted`, or all that its States name, and `default`."""
    return wanted or tuple(sorted({"default", *(cls.__orbit__.queue for cls in app.states)}))


def specs_of(cls: type[State], queues: Iterable[str]) -> tuple[Spec, ...]:
    """What a worker of these queues can run of a State: its own version, and the older ones that it migrates."""
    options = cls.__orbit__
    oldest = 1 if migrates(cls) else options.version
    versions = range(options.version, oldest - 1, -1)
    return tuple(Spec(queue, options.name, version) for queue in queues for version in versions)


def _states_in(module: ModuleType) -> list[type[State]]:
    found = {
        value: None
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, State) and value is not State
    }
    return list(found)


def _check_names(app: str, found: list[type[State]]) -> None:
    seen: dict[str, type[State]] = {}
    for cls in found:
        other = seen.setdefault(cls.__orbit__.name, cls)
        if other is not cls:
            raise DefinitionError(
                f"{app}: {other.__module__}.{other.__qualname__} and {cls.__module__}.{cls.__qualname__}"
                f" have the same name, {cls.__orbit__.name}"
            )


def _imported(name: str, app: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except DefinitionError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise DefinitionError(f"{app}: no such module") from None
        raise _broken(app, error) from error
    except BaseException as error:
        raise _broken(app, error) from error


def _from_file(path: Path, app: str) -> ModuleType:
    if not path.is_file():
        raise DefinitionError(f"{app}: no such file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem if path.stem not in sys.modules else f"orbit_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{app}: no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic resolves annotations through it
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise _broken(app, error) from error
    return module


def _broken(app: str, error: BaseException) -> DefinitionError:
    if isinstance(error, KeyboardInterrupt):
        raise error
    reason = " ".join(str(error).split()) or "no message"
    return DefinitionError(f"{app}: doesn't import: {type(error).__name__}: {reason}")
