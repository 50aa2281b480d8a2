"""The end of a whole deployment: for one that was made for a test, in a Redis that is others' too."""

from __future__ import annotations

from orbit.store.base import StorePart

_SCAN = 500
"""How many keys one call looks at, about."""


class Erasing(StorePart):
    """Removes what a deployment leaves behind."""

    async def erase(self) -> int:
        """Remove every key of this deployment's namespace, and nothing else; how many there were.

        Nothing of it may run any more: what still writes makes keys anew.
        """
        return sum([await self._erase(at) for at in await self._link.one_each(self._keys.probe)])

    async def _erase(self, at: str) -> int:
        """The keys at the server that has the key `at`."""
        cursor, removed = b"0", 0
        while True:
            cursor, found = await self._link.read("SCAN", cursor, "MATCH", self._keys.everything, "COUNT", _SCAN, at=at)
            for key in found:
                removed += int(await self._link.write("UNLINK", key, at=key.decode()))
            if int(cursor) == 0:
                return removed
