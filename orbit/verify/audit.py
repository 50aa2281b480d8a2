"""Reads the logs of ended transactions again, from the start, for the checker to compare with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from orbit.verify.client import WireClient
from orbit.verify.follower import GaveUp
from orbit.verify.trace import LogEntry


async def read_logs(
    url: str, wanted: Iterable[tuple[str, str]], *, some_lost: bool = False
) -> dict[tuple[str, str], list[LogEntry]]:
    """For each (transaction, session): the whole log as that session sees it, to its end.

    A connection carries a transaction once, so each session of one transaction is read over a connection of its own.

    Args:
        some_lost: Those that are not found are left out: Redis lost them.

    Raises:
        GaveUp: One can't be read, or not from its start.
        TimeoutError: One has no end.
    """
    rounds: list[list[tuple[str, str]]] = []
    for tx, session in wanted:
        free = next((pairs for pairs in rounds if all(tx != other for other, _ in pairs)), None)
        if free is None:
            free = []
            rounds.append(free)
        free.append((tx, session))
    logs: dict[tuple[str, str], list[LogEntry]] = {}
    for number, pairs in enumerate(rounds):
        logs.update(await _read(url, pairs, f"auditor {number}", some_lost))
    return logs


async def _read(
    url: str, pairs: Sequence[tuple[str, str]], name: str, some_lost: bool
) -> dict[tuple[str, str], list[LogEntry]]:
    async with WireClient([url], codec="msgpack", name=name) as client:
        followers = [client.follow(tx, session=session) for tx, session in pairs]
        async with asyncio.timeout(60):
            for follower in followers:
                await follower.until(lambda f: f.end is not None or (some_lost and f.gave_up == "not_found"))
        if any(follower.resets for follower in followers):
            raise GaveUp(f"{name}: a log was trimmed")
        read = zip(pairs, followers, strict=True)
        return {pair: follower.entries for pair, follower in read if follower.end is not None}
