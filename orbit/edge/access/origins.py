"""Browsers' pages: of which origins they are let in."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from orbit.errors import Forbidden

log = logging.getLogger("orbit.edge.access")

WARNED: Final = 100
"""Of so many origins that aren't let in it is said, once each: whoever likes can make up more."""
SHOWN_CHARACTERS: Final = 200


class Origins:
    """The origins that one edge lets in: its own, and `others`; `*`: all."""

    def __init__(self, others: Iterable[str] = ()) -> None:
        self._others = frozenset(one.lower().rstrip("/") for one in others)
        self._warned: set[str] = set()

    def let_in(self, origin: str | None, host: str | None) -> bool:
        """Whether a page at `origin` is let in by the edge that it knows as `host`. One that isn't is logged, once."""
        if origin is None or same_origin(origin, host) or "*" in self._others or origin.lower() in self._others:
            return True
        self._warn(origin[:SHOWN_CHARACTERS])
        return False

    def demand(self, origin: str | None, host: str | None) -> None:
        """Refuse what a page that isn't let in makes a browser send.

        Raises:
            Forbidden: It comes from such a page.
        """
        if origin is not None and not self.let_in(origin, host):
            raise Forbidden(f"a page of {origin[:SHOWN_CHARACTERS]} isn't let in: --origin names those that are")

    def _warn(self, origin: str) -> None:
        if origin in self._warned or len(self._warned) >= WARNED:
            return
        self._warned.add(origin)
        log.warning("a page of %s isn't let in; --origin %s lets it in", origin, origin)


def same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a browser's page at `origin` is this edge's own. No browser, no origin: nothing to guard."""
    return origin is None or (host is not None and urlsplit(origin).netloc.lower() == host.lower())
