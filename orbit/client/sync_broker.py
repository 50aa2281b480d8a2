"""`SyncBroker`: the Broker for code without an event loop. Its verbs are made from the Broker's own."""

from __future__ import annotations

import inspect
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from orbit.client.broker import Broker
from orbit.client.portal import Portal, refuse_in_a_loop
from orbit.config import Limits

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _blocking(
    verb: Callable[Concatenate[Broker, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[SyncBroker, _P], _R]:
    """The same verb, which returns when it is done."""

    @wraps(verb)
    def call(self: SyncBroker, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        broker, portal = self._open()
        return portal.call(lambda: verb(broker, *args, **kwargs))

    return call


def _plain(
    stream: Callable[Concatenate[Broker, _P], AsyncGenerator[_R]],
) -> Callable[Concatenate[SyncBroker, _P], Generator[_R]]:
    """The same stream as a plain generator."""

    @wraps(stream)
    def iterate(self: SyncBroker, /, *args: _P.args, **kwargs: _P.kwargs) -> Generator[_R]:
        broker, portal = self._open()
        return portal.iterate(lambda: stream(broker, *args, **kwargs))

    signature = inspect.signature(stream)
    returns = str(signature.return_annotation).removeprefix("Async")
    iterate.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]  # functions have it
    iterate.__annotations__ = {**stream.__annotations__, "return": returns}
    return iterate


class SyncBroker:
    """Starts, follows and steers transactions over Redis, for Flask, Django and scripts. Safe to use from many threads.

    Its verbs are those of `Broker` and promise the same; each returns when it is done. Beneath is a Broker in a daemon
    thread that begins with the first use and ends with `close`, `with`, or the process.

    After a fork the child begins anew with a connection of its own, at its first use. An iterator that began before the
    fork stays the parent's. Use `Broker` where an event loop runs: here, that is a UsageError.

    Args:
        redis: A URL (`redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://`).
        namespace: What begins every key of the deployment.
    """

    def __init__(self, redis: str, *, namespace: str = "orbit", limits: Limits | None = None) -> None:
        self._redis = redis
        self._namespace = namespace
        self._limits = limits
        self._lock = threading.Lock()
        self._opened: tuple[Broker, Portal] | None = None
        _brokers.add(self)

    def __enter__(self) -> Self:
        broker, portal = self._open()
        portal.call(broker.__aenter__)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened. Calls and iterators that still run end with a UsageError; a later use opens anew."""
        refuse_in_a_loop()
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].stop()

    start = _blocking(Broker.start)
    states = _blocking(Broker.states)
    get = _blocking(Broker.get)
    list = _blocking(Broker.list)
    result = _blocking(Broker.result)
    send = _blocking(Broker.send)
    cancel = _blocking(Broker.cancel)
    retry = _blocking(Broker.retry)
    schedule = _blocking(Broker.schedule)
    unschedule = _blocking(Broker.unschedule)
    schedules = _blocking(Broker.schedules)
    updates = _plain(Broker.updates)
    events = _plain(Broker.events)

    def _open(self) -> tuple[Broker, Portal]:
        refuse_in_a_loop()
        with self._lock:
            if self._opened is None:
                broker = Broker(self._redis, namespace=self._namespace, limits=self._limits)
                portal = Portal(broker.close)
                weakref.finalize(self, portal.stop)  # forgotten, or the process ends
                self._opened = broker, portal
            return self._opened

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread that isn't here may have held the old one
        if self._opened is not None:
            _left_behind.append(self._opened)
            self._opened = None


_brokers: weakref.WeakSet[SyncBroker] = weakref.WeakSet()
_left_behind: list[object] = []
"""What belongs to the parent: never collected, so that nothing here closes a connection that the parent uses."""


def _begin_anew() -> None:
    for broker in tuple(_brokers):
        broker._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
