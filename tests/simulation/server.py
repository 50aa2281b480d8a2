"""The simulated Redis: one server that others reach over the simulated network, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
from redis import exceptions as redis_errors

from orbit.store import script
from tests.simulation.engine import Engine, Reply
from tests.simulation.loop import Process, SimLoop, here
from tests.simulation.network import Network, Way

_BEGIN_S = 1_900_000_000.0
HELLO = [b"server", b"redis", b"version", b"7.4.0", b"proto", 2, b"mode", b"standalone", b"role", b"master"]
_WAITS = ("WAIT", "WAITAOF")
_QUIET = (b"PING", b"HELLO", b"INFO", b"TIME", b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"UNKEPT")
"""What never needs memory."""


class Faults:
    """How likely it is, for each command or message, that this happens to it."""

    cut_before = 0.0
    """The connection breaks on the way there: it isn't done."""
    cut_after = 0.0
    """The connection breaks on the way back: it is done."""
    silent = 0.0
    """Nothing passes any more, and nobody is told (done or not)."""
    drop_published = 0.0
    """A published message isn't delivered to one subscriber."""
    drop_live = 0.0
    """As that, of what is published of transactions: all else is heard, so the subscription doesn't look deaf."""
    full = 0.0
    """The server has no memory for it."""
    held: str = ""
    """The script that is held up, whoever sends it, for `held_s`; what its connection sends after it waits, too."""
    held_s = 0.0


class Server:
    """A Redis.

    Attributes:
        skew_s: What its clock is ahead of everybody else's.
        happened: What went wrong so far, counted.
        lost: Transaction and id of all log entries that a failover lost; one may be written again, the same.
        on_answer: Told each command and its answer, as they are executed.
    """

    def __init__(self, loop: SimLoop, network: Network, rng: random.Random) -> None:
        self.loop = loop
        self.network = network
        self.rng = rng
        self.faults = Faults()
        self.skew_s = 0.0
        self.away = False
        self.happened: Counter[str] = Counter()
        self.lost: set[tuple[str, str]] = set()
        self.engine = Engine(lambda: _BEGIN_S + loop.time() + self.skew_s, self._publish)
        self.on_answer: Callable[[str, list[bytes], Reply], None] = lambda name, fields, reply: None
        self._before: list[tuple[str, int, Callable[[], object]]] = []
        self._after_grant: list[Callable[[], object]] = []
        self._connections: dict[SimConnection, None] = {}
        _SCRIPTS.of()
        self._subscribers: dict[bytes, dict[SimConnection, None]] = {}
        self._fork: Any = None
        self._fork_at: int | None = None

    # ---- what goes wrong on purpose

    @property
    def forked(self) -> bool:
        """Whether a failover would lose what was written since `fork`."""
        return self._fork_at is not None

    def fork(self) -> None:
        """From now on nothing is replicated, nor synced to a disk: a failover goes back to this state."""
        self._fork = self.engine.state()
        self._fork_at = self.engine.writes

    def rejoin(self) -> None:
        """What was written since `fork` is kept after all."""
        self._fork = self._fork_at = None

    def fail_over(self, skew_s: float) -> None:
        """Another server takes over, which has what there was at `fork`, and a clock of its own."""
        self.happened["failover"] += 1
        before = self.engine.cursors()
        self.engine.go_back(self._fork)
        self.lost |= before - self.engine.cursors()
        self.rejoin()
        self.skew_s = skew_s
        self.break_all()

    def before(self, name: str, do: Callable[[], object], *, skip: int = 0) -> None:
        """Call `do` just before the next command of that name (a script's, or any: '') is executed."""
        self._before.append((name, skip, do))

    def after_grant(self, do: Callable[[], object]) -> None:
        """Call `do` when the next transaction has been granted to somebody."""
        self._after_grant.append(do)

    def forget_rules(self) -> None:
        """Nothing is to be called any more."""
        self._before.clear()
        self._after_grant.clear()
        self.rejoin()

    def _is_coming(self, name: str) -> None:
        rules, self._before = self._before, []
        for wanted, skip, do in rules:
            if wanted not in ("", name):
                self._before.append((wanted, skip, do))
            elif skip:
                self._before.append((wanted, skip - 1, do))
            else:
                do()

    def break_all(self) -> None:
        for connection in tuple(self._connections):
            connection.break_off(self.rng.random() < 0.5)

    # ---- connections

    def connect(self) -> SimConnection:
        return SimConnection(self)

    def close_of(self, process: Process) -> None:
        """It is dead: its system closes what it had open."""
        for connection in tuple(self._connections):
            if connection.process is process:
                connection.leave()

    def take_in(self, connection: SimConnection) -> None:
        self._connections[connection] = None

    def let_go(self, connection: SimConnection) -> None:
        self._connections.pop(connection, None)
        for subscribers in self._subscribers.values():
            subscribers.pop(connection, None)

    # ---- commands

    def receive(self, connection: SimConnection, fields: list[bytes]) -> None:
        """A command has arrived."""
        if connection not in self._connections:
            return
        if fields == _QUIT:
            self.let_go(connection)
            return
        faults, draw, name = self.faults, self.rng.random, name_of(fields)
        if connection.held:
            connection.held.append(fields)
            return
        if faults.held == name and draw() < 0.5:
            self.happened[f"{name} held"] += 1
            connection.held.append(fields)
            self.loop.call_later(faults.held_s * draw(), self._unhold, connection, context=self.loop.world.context)
            return
        self._take(connection, fields, name)

    def _unhold(self, connection: SimConnection) -> None:
        while connection.held:
            fields = connection.held.popleft()
            if connection in self._connections:
                self._take(connection, fields, name_of(fields))

    def _take(self, connection: SimConnection, fields: list[bytes], name: str) -> None:
        faults, draw = self.faults, self.rng.random
        if self._before:
            self._is_coming(name)
            if connection not in self._connections:
                return
        if faults.cut_before and draw() < faults.cut_before:
            self.happened["cut before"] += 1
            connection.break_off(True)
            return
        silent = faults.silent and draw() < faults.silent
        if silent and draw() < 0.5:
            self.happened["silent"] += 1
            connection.hush()
            return
        if name in _WAITS and connection.written > (self._fork_at or connection.written):
            connection.held.append([b"UNKEPT", name.encode()])
            timeout_s = int(fields[-1]) / 1000
            self.loop.call_later(timeout_s, self._unhold, connection, context=self.loop.world.context)
            return
        for reply in self._execute(connection, fields):
            connection.answer.send(reply)
        if faults.cut_after and draw() < faults.cut_after:
            self.happened["cut after"] += 1
            connection.break_off(True)
        elif silent:
            self.happened["silent"] += 1
            connection.hush()

    def _execute(self, connection: SimConnection, fields: list[bytes]) -> list[Reply]:
        match fields[0]:
            case b"HELLO":
                return [HELLO]
            case b"SSUBSCRIBE":
                return [self._subscribe(connection, channel, n) for n, channel in enumerate(fields[1:], 1)]
            case b"SUNSUBSCRIBE":
                return [self._unsubscribe(connection, channel) for channel in fields[1:]]
            case b"WAIT":
                return [int(fields[1])]
            case b"WAITAOF":
                return [[1, int(fields[2])]]
            case b"UNKEPT":
                self.happened["not kept in time"] += 1
                return [0 if fields[1] == b"WAIT" else [0, 0]]
            case b"PING" if connection.subscribed:
                return [[b"pong", b""]]
            case name if self.faults.full and name not in _QUIET and self.rng.random() < self.faults.full:
                self.happened["full"] += 1
                return [redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")]
        writes = self.engine.writes
        reply = self.engine.ask(fields)
        if self.engine.writes > writes:
            connection.written = self.engine.writes
        name = name_of(fields)
        self.on_answer(name, fields, reply)
        if self._after_grant and name == "claim" and isinstance(reply, list) and reply:
            granted, self._after_grant = self._after_grant, []
            for do in granted:
                do()
        return [reply]

    def _subscribe(self, connection: SimConnection, channel: bytes, n: int) -> Reply:
        connection.subscribed = True
        self._subscribers.setdefault(channel, {})[connection] = None
        return [b"ssubscribe", channel, n]

    def _unsubscribe(self, connection: SimConnection, channel: bytes) -> Reply:
        self._subscribers.get(channel, {}).pop(connection, None)
        return [b"sunsubscribe", channel, 0]

    def _publish(self, channel: bytes, message: bytes) -> int:
        subscribers = self._subscribers.get(channel, {})
        drop = max(self.faults.drop_published, self.faults.drop_live if channel.endswith(b":live") else 0.0)
        for connection in subscribers:
            if drop and self.rng.random() < drop:
                self.happened["published and lost"] += 1
            else:
                connection.answer.send([b"smessage", channel, message])
        return len(subscribers)


class SimConnection:
    """What the store uses of redis-py's connections, over the simulated network."""

    _numbers = 0

    def __init__(self, server: Server) -> None:
        self._server = server
        self.process = here()
        self._ask = Way(server.network, server.loop.world, lambda fields: server.receive(self, fields))
        self.answer = Way(server.network, self.process, self._got)
        self._inbox: deque[Any] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._broken = True
        self._closed = False
        self.subscribed = False
        self.held: deque[list[bytes]] = deque()
        self.written = 0
        server.loop.number += 1
        self._number = server.loop.number

    def __hash__(self) -> int:
        return self._number

    # ---- for the store

    async def connect(self) -> None:
        await asyncio.sleep(self._server.network.delay_s())
        if self._server.away or self._closed:
            raise redis_errors.ConnectionError("Connection refused")
        self._broken = False
        self._server.take_in(self)

    @property
    def is_connected(self) -> bool:
        return not self._broken

    async def send_command(self, *command: Any, **_: Any) -> None:
        await self.send_packed_command(hiredis.pack_command(command))  # type: ignore[arg-type]

    async def send_packed_command(self, packed: bytes | list[bytes], check_health: bool = True) -> None:
        if self._broken:
            raise redis_errors.ConnectionError("Connection lost")
        for one in [packed] if isinstance(packed, bytes) else packed:
            for fields in _commands(one):
                self._ask.send(fields)

    async def read_response(self, **_: Any) -> Any:
        while not self._inbox:
            if self._broken:
                raise redis_errors.ConnectionError("Connection closed by server.")
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        reply = self._inbox.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def disconnect(self, nowait: bool = False, **_: Any) -> None:
        """What was sent before is still done, if it arrives."""
        self.leave()
        self._stir()

    # ---- for the network

    def _got(self, reply: Any) -> None:
        if reply is _END:
            self._broken = True
        else:
            self._inbox.append(reply)
        self._stir()

    def _stir(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def leave(self) -> None:
        """This end closes; what it sent before is still done."""
        self._closed = self._broken = True
        self._ask.send(_QUIT)

    def break_off(self, at_once: bool) -> None:
        """The connection breaks. What is on its way arrives no more (`at_once`), or still does."""
        self._server.let_go(self)
        if at_once:
            self._ask.cut = True
            self.answer.cut = True
            self.answer = Way(self._server.network, self.process, self._got)
        self.answer.send(_END)

    def hush(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._server.let_go(self)
        self._ask.cut = self.answer.cut = True


def name_of(fields: list[bytes]) -> str:
    """A script's name, or a command's."""
    if fields[0] == b"EVALSHA":
        return _SCRIPTS.get(fields[1], "")
    if fields[0] == b"EVAL":
        return fields[1][3:40].decode(errors="replace").partition(":")[0]
    return fields[0].decode()


class _Names(dict[bytes, str]):
    def of(self) -> None:
        """Look the scripts up anew: they may have been edited."""
        self.clear()
        self.update({one.sha.encode(): one.name for one in vars(script).values() if isinstance(one, script.Script)})


_SCRIPTS = _Names()
_END = object()
_QUIT = [b"QUIT"]


def _commands(packed: bytes) -> Iterator[list[bytes]]:
    """The commands in what was sent, each as its words."""
    at = 0
    while at < len(packed):
        end = packed.index(b"\r\n", at)
        count, at = int(packed[at + 1 : end]), end + 2
        fields = []
        for _ in range(count):
            end = packed.index(b"\r\n", at)
            size = int(packed[at + 1 : end])
            fields.append(packed[end + 2 : end + 2 + size])
            at = end + 4 + size
        yield fields
