"""A pytest plugin: fixtures for the tests of one's own States. Installed with the extra `testing`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orbit.client import SyncBroker
    from orbit.state import State

_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Dev:
    """A deployment that runs: a private server, a worker and an edge, as `orbit dev` starts them, in this process.

    Attributes:
        redis: Where its server is, for `Broker` and `SyncBroker`.
        url: Where its edge is, for `Client` and HTTP.
        broker: A SyncBroker on it.
    """

    redis: str
    url: str
    broker: SyncBroker


@pytest.fixture
def orbit_dev() -> Iterator[Callable[..., Dev]]:
    """Start a real embedded deployment: `dev = orbit_dev(MyState, ...)`, or modules; it ends with the test.

    For plain and async tests alike: it lives in a thread of its own. Needs the extra `embedded`, too.
    """
    with contextlib.ExitStack() as stack:

        def start(*states: type[State] | ModuleType) -> Dev:
            return stack.enter_context(_running(states))

        yield start


@contextlib.contextmanager
def _running(states: tuple[type[State] | ModuleType, ...]) -> Iterator[Dev]:
    from orbit.client import SyncBroker  # only where it is asked for: the plugin is loaded by every pytest
    from orbit.store.embedded import EmbeddedServer
    from orbit.testing.bench import app_of
    from orbit.testing.live import LiveFleet

    app = app_of(states)
    with EmbeddedServer() as server, contextlib.ExitStack() as stack:
        fleet = LiveFleet(server.url, app)
        thread = threading.Thread(target=lambda: asyncio.run(fleet.live()), name="orbit dev", daemon=True)
        thread.start()
        try:
            if not fleet.up.wait(_START_S) or fleet.error is not None:
                raise RuntimeError("the deployment didn't start") from fleet.error
            broker = SyncBroker(server.url)
            stack.callback(broker.close)
            yield Dev(server.url, fleet.url, broker)
        finally:
            fleet.stop()
            thread.join(_START_S)
