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

    async def _clock_ms(self, partition: int) -> int:
        """The clock that this partition's times are judged by, in ms since 1970: its server's."""
        seconds, micros = await self._link.read("TIME", at=self._keys.partition(partition))
        return int(seconds) * 1000 + int(micros) // 1000


def digits(count: int) -> str:
    """So many random decimal digits."""
    return f"{secrets.randbelow(10**count):0{count}d}"


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
