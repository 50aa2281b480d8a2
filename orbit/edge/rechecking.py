"""After Redis was away: the sessions that an edge holds, compared with what Redis holds of them now.

A last mid below a receipt that was given means that Redis lost messages: the client is told with `reset`. A place
that was lost is taken again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from orbit.edge.attachment import Attachment
from orbit.errors import OrbitError

log = logging.getLogger("orbit.edge")

AT_ONCE = 100


async def check_sessions(attachments: Iterable[Attachment], retry_s: float) -> None:
    """Check each once; those that Redis doesn't answer for again, until it does."""
    room = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(_check(attachment, room, retry_s) for attachment in attachments))


async def _check(attachment: Attachment, room: asyncio.Semaphore, retry_s: float) -> None:
    while attachment.open:
        try:
            async with room:
                await attachment.recheck()
            return
        except OrbitError as error:
            log.debug("checking a session of %s: %s", attachment.tx, error)
        except Exception as error:  # its own harm alone
            attachment.on_defect(error)
            return
        await asyncio.sleep(retry_s)
