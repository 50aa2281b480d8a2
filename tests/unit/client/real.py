"""A real edge, in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orbit.edge import run_edge
from orbit.edge.config import EdgeConfig
from tests.support.waiting import PATIENCE_S


@asynccontextmanager
async def running_edge(redis_url: str, namespace: str) -> AsyncIterator[str]:
    said: asyncio.Queue[str] = asyncio.Queue()
    config = EdgeConfig(redis_url, port=0, namespace=namespace, say=said.put_nowait)
    edge = asyncio.create_task(run_edge(config))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while "ready" not in (line := await said.get()):
                pass
        yield line.split()[-1]
    finally:
        config.stop.set()
        await edge
