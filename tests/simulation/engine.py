"""The data of the simulated Redis: fakeredis's commands, the real scripts, a clock of its own, states to go back to.

fakeredis reads a script anew at every call and collects all garbage after it; here each is compiled once, which is what
makes thousands of runs affordable. What a script publishes is handed to the simulated network, in a fixed order.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import redis
from fakeredis import FakeServer
from fakeredis._commands import SUPPORTED_COMMANDS
from fakeredis._helpers import SimpleError
from fakeredis._socket import FakeSocket
from fakeredis.commands_mixins.scripting_mixin import LUA_MODULE
from redis.connection import DefaultParser

_BIND = """
local call = ...
redis = { call = call, sha1hex = nil }
"""
_SET = "local k, a = ...; KEYS = k; ARGV = a"

Reply = Any
"""What a command answers: bytes, int, None, lists of these, or an exception of redis-py's for an error reply."""


class Scripts:
    """One Lua interpreter for the process, and every script that it has read."""

    def __init__(self) -> None:
        self.lua = LUA_MODULE.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self.engine: Engine | None = None
        self._chunks: dict[bytes, Any] = {}
        self.lua.execute(_BIND.encode(), self._call)
        self._set = self.lua.eval(b"function(k, a) KEYS = k; ARGV = a end")
        self._load = self.lua.eval(b"function(text) return assert(loadstring(text)) end")

    def run(self, engine: Engine, source: bytes, keys: tuple[bytes, ...], arguments: tuple[bytes, ...]) -> Any:
        chunk = self._chunks.get(source)
        if chunk is None:
            chunk = self._chunks[source] = self._load(source)
        self.engine = engine
        self._set(self.lua.table_from(keys), self.lua.table_from(arguments))
        return engine.from_lua(chunk())

    def _call(self, name: bytes, *arguments: Any) -> Any:
        assert self.engine is not None
        return self.engine.called(name, arguments)


_scripts: list[Scripts] = []


def scripts() -> Scripts:
    """The interpreter of this process."""
    if not _scripts:
        _scripts.append(Scripts())
    return _scripts[0]


class Engine(FakeSocket):  # type: ignore[misc]
    """Runs commands on the data, one at a time.

    Attributes:
        writes: How many commands changed something so far, in all.
    """

    def __init__(self, now_s: Callable[[], float], publish: Callable[[bytes, bytes], int]) -> None:
        super().__init__(FakeServer(server_type="redis", version=(7,)), 0, client_class=redis.Redis)
        self._db.notify_watch = self._wrote
        self.writes = 0
        self._now_s = now_s
        self._tell = publish
        self._known: dict[bytes, Any] = {}
        self.sources: dict[bytes, bytes] = {}

    def _wrote(self, _key: bytes) -> None:
        self.writes += 1

    # ---- commands

    def ask(self, fields: list[bytes]) -> Reply:
        """Run a command."""
        self._db.time = self._now_s()
        try:
            func, sig = self._found(fields[0])
            sig.check_arity(fields[1:], self.version)
            result = self._run_command(func, sig, fields[1:], False)
        except SimpleError as error:
            result = error
        return self._shown(result)

    def _found(self, name: bytes) -> Any:
        found = self._known.get(name)
        if found is None:
            text = name.decode().lower()
            if text not in SUPPORTED_COMMANDS:
                raise SimpleError(f"ERR unknown command '{text}'")
            sig = SUPPORTED_COMMANDS[text]
            found = self._known[name] = getattr(self, sig.func_name), sig
        return found

    def _shown(self, result: Any) -> Reply:
        if isinstance(result, list):
            return [self._shown(one) for one in result]
        if isinstance(result, SimpleError):
            return DefaultParser(socket_read_size=65536).parse_error(result.value)
        return getattr(result, "value", result) if not isinstance(result, bytes | int | type(None)) else result

    # ---- what is done otherwise than fakeredis does it

    def eval(self, script: bytes, numkeys: int, *rest: bytes) -> Any:
        self.sources[hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()] = script
        return self._script(script, numkeys, rest)

    def evalsha(self, sha1: bytes, numkeys: int, *rest: bytes) -> Any:
        source = self.sources.get(sha1)
        if source is None:
            raise SimpleError("NOSCRIPT No matching script. Please use EVAL.")
        return self._script(source, numkeys, rest)

    def _script(self, source: bytes, numkeys: int, rest: tuple[bytes, ...]) -> Any:
        try:
            return scripts().run(self, source, rest[:numkeys], rest[numkeys:])
        except LUA_MODULE.LuaError as error:
            raise SimpleError(f"ERR {error}") from None

    def spublish(self, channel: bytes, message: bytes) -> int:
        return self._tell(channel, message)

    def time(self) -> list[bytes]:
        micros = round(self._now_s() * 1_000_000)
        return [b"%d" % (micros // 1_000_000), b"%d" % (micros % 1_000_000)]

    # ---- between Lua and the commands

    def called(self, name: bytes, arguments: tuple[Any, ...]) -> Any:
        func, sig = self._found(name)
        packed = [one if type(one) is bytes else b"%.17g" % one for one in arguments]
        return self._to_lua(self._run_command(func, sig, packed, True))

    def _to_lua(self, result: Any) -> Any:
        if result is None:
            return False
        if isinstance(result, list):
            return scripts().lua.table_from([self._to_lua(one) for one in result])
        return self._convert_redis_result(scripts().lua, result)

    def from_lua(self, result: Any) -> Any:
        if result is None or type(result) is bytes:
            return result
        if type(result) is float:
            return int(result)
        if type(result) is bool:
            return 1 if result else None
        if LUA_MODULE.lua_type(result) == "table":
            found, at = [], 1
            while (one := result[at]) is not None:
                found.append(self.from_lua(one))
                at += 1
            return found
        return result

    # ---- states of the whole

    def cursors(self) -> set[tuple[str, str]]:
        """The log entries: transaction and id. Transactions that were claimed at once have their epoch in common."""
        logs = [key for key in self._db._dict if key.endswith(b":log")]
        return {
            (key.split(b":")[-2].decode(), entry[0].decode())
            for key in logs
            for entry in self.ask([b"XRANGE", key, b"-", b"+"])
        }

    def state(self) -> Any:
        """All data as it is now, to go back to."""
        return copy.deepcopy((self._db._dict, self._db._expiry_heap))

    def go_back(self, state: Any) -> None:
        """Be as at `state`; scripts are unknown again."""
        self._db._dict, self._db._expiry_heap = copy.deepcopy(state)
        self.sources.clear()
