"""What a server says of itself."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis


async def commands_processed(url: str) -> int:
    """How many commands it has processed."""
    return int((await _info(url, "stats"))["total_commands_processed"])


async def used_bytes(url: str) -> int:
    """The memory that its data takes."""
    return int((await _info(url, "memory"))["used_memory_dataset"])


async def cpu_s(url: str) -> float:
    """The CPU time that it has used."""
    found = await _info(url, "cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


async def _info(url: str, section: str) -> dict[str, Any]:
    redis = Redis.from_url(url)
    try:
        return dict(await redis.info(section))
    finally:
        await redis.aclose()
