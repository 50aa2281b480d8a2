"""The whole of what a deployment holds, as values: to compare before and after, and to take Redis back in time."""

from __future__ import annotations

from typing import Any

Keyspace = dict[bytes, tuple[bytes, Any]]
"""Key to type and content. A stream's content includes its last id: ids that were deleted count."""


async def read_keyspace(redis: Any, namespace: str) -> Keyspace:
    """All keys of a namespace."""
    found: Keyspace = {}
    async for key in redis.scan_iter(match=f"{namespace}:*", count=1_000):
        kind = await redis.type(key)
        found[key] = (kind, await _content(redis, key, kind))
    return found


async def _content(redis: Any, key: bytes, kind: bytes) -> Any:
    match kind:
        case b"hash":
            return await redis.hgetall(key)
        case b"zset":
            return await redis.zrange(key, 0, -1, withscores=True)
        case b"stream":
            info = await redis.xinfo_stream(key)
            return await redis.xrange(key), info["last-generated-id"]
        case b"string":
            return await redis.get(key)
    raise AssertionError(f"{key!r} is a {kind!r}: the store uses none")


async def write_keyspace(redis: Any, namespace: str, then: Keyspace) -> None:
    """Make the namespace hold what it held then, as a failover to a replica that lagged does."""
    now = await read_keyspace(redis, namespace)
    if now:
        await redis.delete(*now)
    for key, (kind, content) in then.items():
        match kind:
            case b"hash":
                await redis.hset(key, mapping=content)
            case b"zset":
                await redis.zadd(key, dict(content))
            case b"string":
                await redis.set(key, content)
            case b"stream":
                await _write_stream(redis, key, *content)


async def _write_stream(redis: Any, key: bytes, entries: list[tuple[bytes, Any]], last: bytes) -> None:
    for entry_id, fields in entries:
        await redis.xadd(key, fields, id=entry_id)
    if not entries or entries[-1][0] != last:
        await redis.xadd(key, {"deleted": "1"}, id=last)
        await redis.xdel(key, last)
