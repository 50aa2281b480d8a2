"""Which branches of the scripts a test went through.

In the scripts that the tests run, each line marked `-- branch: <name>` first publishes `<script>: <name>`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from orbit.store import script

CHANNEL = f"branches-{os.getpid()}"
WITHOUT = "ORBIT_TEST_WITHOUT_CHECK"
"""Names a check of commit.lua to run without: the suite must turn red."""

_MARK = re.compile(r"^(\s*)(.*?) -- branch: (.+)$", re.MULTILINE)
_FOLDER = files("orbit.store") / "scripts"


def all_branches() -> set[str]:
    """`<script>: <name>` of each branch, of what scripts share (`lib/...`) too."""
    found: set[str] = set()
    for folder, prefix in ((_FOLDER, ""), (_FOLDER / "lib", "lib/")):
        for file in folder.iterdir():
            if file.name.endswith(".lua"):
                name = prefix + file.name.removesuffix(".lua")
                found |= {f"{name}: {match[3]}" for match in _MARK.finditer(file.read_text("utf-8"))}
    return found


def without(check: str) -> Callable[[str], str]:
    """Takes the block `-- check: <check>` out of a script's text."""
    block = re.compile(rf"^\s*-- check: {check}$.*?^\s*-- end check$", re.MULTILINE | re.DOTALL)

    def take_out(text: str) -> str:
        text, count = block.subn("", text)
        assert count == 1, f"there is no check {check!r}"
        return text

    return take_out


def _traced(name: str, text: str) -> str:
    if name == "commit" and (check := os.environ.get(WITHOUT)):
        text = without(check)(text)
    return _MARK.sub(lambda m: f"{m[1]}redis.call('PUBLISH', '{CHANNEL}', '{name}: {m[3]}'); {m[2]}", text)


def traced_scripts() -> dict[str, script.Script]:
    """The store's scripts, by the name of their constant, each saying which branches it takes."""
    return {
        constant: script.Script.of(one.name, script.read_source(one.name, _traced), writes=one.writes)
        for constant, one in vars(script).items()
        if isinstance(one, script.Script)
    }


class Taken:
    """Collects the branches taken since it began to listen.

    In a cluster each node tells the others in the order of its own; what one tells last ends what it told before.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._nodes: list[Any] = []
        self._listener: Any = None

    async def listen(self) -> None:
        if isinstance(self._redis, RedisCluster):
            await self._redis.initialize()
            self._nodes = [Redis(host=one.host, port=one.port, protocol=2) for one in self._redis.get_primaries()]
        else:
            self._nodes = [self._redis]
        self._listener = self._nodes[0].pubsub()
        await self._listener.subscribe(CHANNEL)
        await self._next()

    async def all(self) -> set[str]:
        found: set[str] = set()
        for node in self._nodes:
            await node.publish(CHANNEL, "end")
        ends = 0
        while ends < len(self._nodes):
            said = (await self._next())["data"].decode()
            if said == "end":
                ends += 1
            else:
                found.add(said)
        await self._listener.aclose()
        for node in self._nodes:
            if node is not self._redis:
                await node.aclose()
        return found

    async def _next(self) -> dict[str, Any]:
        while True:
            message: dict[str, Any] | None = await self._listener.get_message(timeout=None)
            if message is not None:
                return message
