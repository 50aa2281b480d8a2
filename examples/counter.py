"""The smallest State: it counts, once a second.

    orbit dev examples/counter.py
    orbit start Counter --input '{"total": 5}' --follow

**`run` begins again from its top** after a crash, a deploy, and whenever the worker changes, on the fields of the last
commit. So it loops on a field, and advances it in the turn that sends: field and update are one commit. Kill the worker
half way, and the count goes on where it was, with no number missing and none twice.
"""

import asyncio

from orbit import State


class Counter(State):
    """Counts to `total`."""

    total: int = 10
    n: int = 0

    async def run(self) -> int:
        while self.n < self.total:
            await asyncio.sleep(1)
            self.n += 1
            await self.transaction.send_update(self.n)
        return self.n
