"""What this machine and this Redis can do without Orbit: the floor to hold the other figures against."""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis

APPEND_AND_PUBLISH = """
local id = redis.call('XADD', KEYS[1], '*', 'd', ARGV[1])
redis.call('SPUBLISH', KEYS[2], ARGV[1])
return id
"""


async def script_round_trips(url: str, tasks: int, seconds: float) -> float:
    """Append-and-publish scripts per second from `tasks` tasks, each awaiting its own answers: 200 bytes each."""
    redis = Redis.from_url(url)
    script = redis.register_script(APPEND_AND_PUBLISH)
    payload, done = b"x" * 200, 0
    ends = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await script(keys=["{bench}:log", "{bench}:live"], args=[payload])
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    rate = done / (time.perf_counter() - began)
    await redis.delete("{bench}:log")
    await redis.aclose()
    return rate
