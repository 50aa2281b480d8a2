"""saq."""

import os
from typing import Any

from saq import Queue

from benchmarks.mark import called

queue = Queue.from_url(os.environ["BENCH_REDIS"])


async def noop(ctx: Any) -> None:
    called()


settings = {"queue": queue, "functions": [noop], "concurrency": 100}
