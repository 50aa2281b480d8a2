"""streaq."""

import os

from streaq import Worker

from benchmarks.mark import called

worker = Worker(redis_url=os.environ["BENCH_REDIS"], concurrency=100)


@worker.task()
async def noop() -> None:
    called()
