"""What an edge knows of the server that it is mounted in: what that logs, and that it begins to stop."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LOGS: Final = ("uvicorn.access", "uvicorn.error")
"""Where uvicorn writes the path of a request, and of a WebSocket's handshake, with its query."""
LOOK_S: Final = 0.1
_TOKEN: Final = re.compile(r"([?&]token=)[^&\s]*")


class TokensHidden(logging.Filter):
    """Takes the value of `token` out of the queries that a record names."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_TOKEN.sub(r"\1...", arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


@contextmanager
def tokens_hidden() -> Iterator[None]:
    """While the block runs, uvicorn's logs hold no `?token=`. Other servers' logs aren't known here."""
    hidden, logs = TokensHidden(), [logging.getLogger(name) for name in LOGS]
    for log in logs:
        log.addFilter(hidden)
    try:
        yield
    finally:
        for log in logs:
            log.removeFilter(hidden)


async def stopping() -> None:
    """Return when uvicorn begins to stop, which ASGI doesn't tell: its `lifespan` ends after the last connection.

    uvicorn is found by its handler of SIGTERM. Never returns under another server, or where that handler is another's.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not hasattr(server, "should_exit"):
        await asyncio.Event().wait()
    while not getattr(server, "should_exit", False):  # noqa: ASYNC110 - uvicorn sets a flag, no event
        await asyncio.sleep(LOOK_S)
