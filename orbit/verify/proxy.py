"""A TCP proxy that fails on purpose: it cuts a connection after the request went through, holds bytes back, or refuses.

    async with Proxy(host, port) as proxy:
        cut = proxy.cut_after(b"EVALSHA")      # the next request that holds these bytes is done, its reply lost
        ...
        await cut.done.wait()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

_CHUNK = 65_536
_SUBSCRIBE = b"\r\nSSUBSCRIBE\r\n"


class Cut:
    """One planned cut. `done` is set once the server has read the request whole and the client's connection is gone."""

    def __init__(self, match: bytes) -> None:
        self.match = match
        self.armed = True
        self.done = asyncio.Event()


class _Pipe:
    """One client's connection and the server's behind it."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.cut: Cut | None = None
        self.tail = b""
        self.subscribes = False
        """It has asked for a subscription."""
        self.swallow_up = self.swallow_down = False

    async def upward(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            self.subscribes = self.subscribes or _SUBSCRIBE in data
            await self.proxy.gate(self.proxy.delay_up_s)
            if self.swallow_up:
                continue
            self.server.write(data)
            await self.server.drain()
            if self._matches(data):
                break
        # The half-close lets the server read and do everything before it sees the end.
        if self.server.can_write_eof():
            self.server.write_eof()

    def _matches(self, data: bytes) -> bool:
        seen = self.tail + data
        for cut in self.proxy.cuts:
            if cut.armed and cut.match in seen:
                cut.armed = False
                self.cut = cut
                return True
        keep = max((len(cut.match) for cut in self.proxy.cuts), default=1) - 1
        self.tail = seen[-keep:] if keep else b""
        return False

    async def downward(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            if self.cut is not None:
                continue
            await self.proxy.gate(self.proxy.delay_down_s)
            if self.swallow_down:
                continue
            if self.cut is None:
                self.client.write(self.proxy.rewrite(data))
                await self.client.drain()

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens on a free loopback port (or `listen`) and passes bytes on to `host:port` (or the unix socket `path`).

    Attributes:
        delay_up_s / delay_down_s: Held back before each chunk to / from the server.
        rewrite: Applied to each chunk from the server; must keep lengths where the protocol counts them.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, path: str | None = None, listen: int = 0) -> None:
        self._target = (host, port)
        self._listen = listen
        self._path = path
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.refusing = False
        self.cuts: list[Cut] = []
        self.delay_up_s = 0.0
        self.delay_down_s = 0.0
        self.rewrite: Callable[[bytes], bytes] = bytes
        self.connected = 0
        """How many connections were accepted and passed on so far."""

    @classmethod
    def before(cls, url: str, *, listen: int = 0) -> Proxy:
        """A proxy in front of the server at a `redis://` or `unix://` URL."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls(path=parts.path, listen=listen)
        return cls(parts.hostname or "127.0.0.1", parts.port or 6379, listen=listen)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        self.drop_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what a test does to it

    def cut_after(self, match: bytes) -> Cut:
        """The next request that holds `match` reaches the server and is done; its reply and the connection are lost."""
        cut = Cut(match)
        self.cuts.append(cut)
        return cut

    def hold(self) -> None:
        """From now on no byte passes, in no direction; connections stay open (a network gone silent)."""
        self._open.clear()

    def release(self) -> None:
        """Let all that was held pass."""
        self._open.set()

    def drop_all(self) -> None:
        """Break every connection now."""
        for pipe in tuple(self._pipes):
            pipe.abort()

    def half_open(self, *, up: bool = False, down: bool = False) -> None:
        """What the connections that subscribe now say, or are told, vanishes from now on; they stay open."""
        for pipe in tuple(self._pipes):
            if pipe.subscribes:
                pipe.swallow_up, pipe.swallow_down = up, down

    def lead_to(self, url: str) -> None:
        """What connects from now on is passed on to the server at `url`; what is connected stays where it is."""
        other = Proxy.before(url)
        self._target, self._path = other._target, other._path

    def drop_commands(self) -> None:
        """Break every connection but those that subscribe."""
        for pipe in tuple(self._pipes):
            if not pipe.subscribes:
                pipe.abort()

    # ---- inside

    async def gate(self, delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        await self._open.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except OSError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            return
        opening = asyncio.open_unix_connection(self._path) if self._path else asyncio.open_connection(*self._target)
        server_reader, server_writer = await opening
        self.connected += 1
        pipe = _Pipe(self, writer, server_writer)
        self._pipes.add(pipe)
        up = asyncio.ensure_future(pipe.upward(reader))
        try:
            await pipe.downward(server_reader)
        finally:
            pipe.abort()
            self._pipes.discard(pipe)
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            if pipe.cut is not None:
                pipe.cut.done.set()
