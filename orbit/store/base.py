"""What all parts of the store share."""

from __future__ import annotations

import secrets

from orbit.store.keys import Keys
from orbit.store.link import Link
from orbit.store.types import StoreSettings


class StorePart:
    """One topic's verbs. `Store` puts the parts together."""

    settings: StoreSettings
    _link: Link
    _keys: Keys
    _secret: bytes


def digits(count: int) -> str:
    """So many random decimal digits."""
    return f"{secrets.randbelow(10**count):0{count}d}"


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
