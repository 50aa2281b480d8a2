"""How often, and how long, a command that certainly wasn't done is sent again."""

from __future__ import annotations

import asyncio
import random

from orbit.store.outcome import refusal

_AT_ONCE = 4
"""So many redirects are followed at once: more than that, and the servers don't agree yet."""
_FIRST_S = 0.005
_LONGEST_S = 0.25


class Patience:
    """Of one command."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._until_s: float | None = None
        self._followed = 0
        self._pause_s = _FIRST_S

    async def follow(self, error: Exception) -> None:
        """Before it is sent to where `error` says. Raises as `pause`."""
        self._followed += 1
        if self._followed > _AT_ONCE:
            await self.pause(error)

    async def pause(self, error: Exception) -> None:
        """Wait a moment.

        Raises:
            Unavailable: It has been tried for long enough; nothing was written.
        """
        now = asyncio.get_running_loop().time()
        if self._until_s is None:
            self._until_s = now + self._within_s
        if now >= self._until_s:
            raise refusal(error) from error
        await asyncio.sleep(min(self._pause_s * random.uniform(0.5, 1), self._until_s - now))
        self._pause_s = min(_LONGEST_S, 2 * self._pause_s)
