"""taskiq over Redis streams."""

import os

from taskiq_redis import RedisStreamBroker

from benchmarks.mark import called

broker = RedisStreamBroker(os.environ["BENCH_REDIS"])


@broker.task
async def noop() -> None:
    called()
