"""Clients that hop between edges and send at random, and the judgement of all that they saw."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.conversation import check_trace
from orbit.verify.follower import Follower, GaveUp
from orbit.verify.logs import check_complete, check_logs, check_messages
from orbit.verify.trace import LogEntry, seq_of

CLIENTS_EACH = 4
"""How many clients follow each transaction."""
SETTLE_S = 90.0
DOINGS = ("count",) * 6 + ("private", "private", "raise", "reject")
REFUSED = {"raise": "state_error", "reject": "forbidden"}


class Crowd:
    """The clients. `done` says what each message of each follower asked for."""

    def __init__(self, rng: random.Random, edges: list[str], ids: list[str]) -> None:
        self.rng = rng
        self.clients: list[WireClient] = []
        self.followers: list[Follower] = []
        self.asked: dict[int, dict[int, str]] = {}
        self.hops = 0
        self.replaced = 0
        half = len(ids) // 2
        for number in range(CLIENTS_EACH * half):
            codec = rng.choice(("json", "msgpack"))
            client = WireClient(edges, codec=codec, name=f"client {number}", rng=random.Random(rng.random()))
            self.clients.append(client)
            for tx in (ids[number % half], ids[half + number % half]):
                self.followers.append(client.follow(tx))

    def name(self, follower: Follower) -> str:
        return f"{follower.client.trace.name} in {follower.tx}"

    def say(self, follower: Follower, do: str) -> None:
        asked = self.asked.setdefault(id(follower), {})
        n = len(asked) + 1
        asked[n] = do
        mid = follower.send({"client": self.name(follower), "n": n, "do": do})
        assert mid == n, f"{self.name(follower)}: a message was given up: {follower.lost}, {follower.unsendable}"

    async def live(self, client: WireClient, stop: asyncio.Event) -> None:
        """Send and hop at random until told to stop."""
        rng = client.rng
        while not await set_within(stop, rng.uniform(0.2, 2.0)):
            if rng.random() < 0.6:
                self.say(rng.choice(list(client.followers.values())), rng.choice(DOINGS))
                continue
            self.hops += 1
            for follower in client.followers.values():
                self.forgive(follower)
            client.hop(rude=rng.random() < 0.5)

    def heads(self) -> dict[str, int]:
        """How far each transaction has come, as far as anyone of the crowd knows."""
        heads: dict[str, int] = {}
        for follower in self.followers:
            heads[follower.tx] = max(heads.get(follower.tx, 0), seq_of(follower.cursor))
        return heads

    def forgive(self, follower: Follower) -> None:
        """A client that hops so often may be replaced by its own late attaches: the person at it tries again."""
        if follower.gave_up == "replaced":
            self.replaced += 1
            follower.gave_up = None
            follower.replaced = 0


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def settle(crowd: Crowd) -> None:
    """Nobody hops or dies any more: all that was said is stored, each transaction is finished, and its end is seen."""
    try:
        async with asyncio.timeout(SETTLE_S):
            for follower in crowd.followers:
                await patiently(crowd, follower, lambda f: not f.queue or f.end)
                assert follower.end is None, f"{crowd.name(follower)}: it is over, unasked: {follower.end}"
            for follower in {follower.tx: follower for follower in crowd.followers}.values():
                crowd.say(follower, "finish")
            for follower in crowd.followers:
                await patiently(crowd, follower, lambda f: f.end is not None)
    except TimeoutError:
        waiting = [
            f"{crowd.name(f)}: attached {f.attached}, asked {f.asked}, at {f.cursor}, queue {f.queue}, {f.gave_up}"
            for f in sorted(crowd.followers, key=lambda f: not f.queue)
            if f.end is None
        ]
        raise AssertionError("never came to rest:\n" + "\n".join(waiting[:20])) from None


async def patiently(crowd: Crowd, follower: Follower, condition: Callable[[Follower], object]) -> None:
    """Until the condition holds; who is replaced by a late attach of its own is forgiven, as in the storm."""
    while True:
        try:
            await follower.until(condition)
            return
        except GaveUp:
            if follower.gave_up != "replaced":
                raise
            crowd.forgive(follower)
            follower._attach_again()


async def judge(crowd: Crowd, edge: str) -> list[str]:
    logs = await read_logs(edge, [(f.tx, str(f.session)) for f in crowd.followers])
    found: list[str] = []
    for client in crowd.clients:
        own = {tx: logs[tx, str(f.session)] for tx, f in client.followers.items()}
        found += map(str, check_trace(client.trace, own))
    by_tx: dict[str, dict[str, list[LogEntry]]] = {}
    for follower in crowd.followers:
        log = logs[follower.tx, str(follower.session)]
        by_tx.setdefault(follower.tx, {})[crowd.name(follower)] = log
        found += map(str, check_complete(crowd.name(follower), follower.entries, log))
        found += _fates(crowd, follower, log)
    for sessions in by_tx.values():
        found += map(str, check_logs(sessions))
        found += _ticks(next(iter(sessions.values())))
    return found


def _fates(crowd: Crowd, follower: Follower, log: list[LogEntry]) -> list[str]:
    name, asked = crowd.name(follower), crowd.asked.get(id(follower), {})
    handled = [body["n"] for body in _updates(log) if "handled" in body and body["client"] == name]
    assert follower.end is not None
    fates = check_messages(
        name, follower.stored, handled, follower.refused, lambda mid: REFUSED.get(asked.get(mid, "count"))
    )
    found = [*map(str, fates)]
    if follower.end["result"].get(name, []) != handled:
        found.append(f"{name}: the fields say {follower.end['result'].get(name)}, the updates {handled}")
    private = [(body["private"], body["client"]) for body in _updates(log) if "private" in body]
    meant = [(mid, name) for mid, do in asked.items() if do == "private"]
    if private != meant:
        found.append(f"{name}: private answers to {private}, asked for {meant}")
    return found


def _updates(log: list[LogEntry]) -> list[Any]:
    return [entry.body for entry in log if entry.kind == "update"]


def _ticks(log: list[LogEntry]) -> list[str]:
    ticks = [body["tick"] for body in _updates(log) if "tick" in body]
    return [] if ticks == list(range(1, len(ticks) + 1)) else [f"ticks out of order or missing: {ticks}"]
