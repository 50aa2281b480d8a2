"""A TCP proxy that fails on purpose: it cuts a connection after the request went through, holds bytes back in one
direction or both, refuses, goes slow, loses published messages, or leads elsewhere.

    async with Proxy(host, port) as proxy:
        cut = proxy.cut_after(b"EVALSHA")      # the next request that holds these bytes is done, its reply lost
        ...
        await cut.done.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

from orbit.verify.resp import Replies, is_published

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
        self.replies: Replies | None = None
        """On a connection that has asked for a subscription: where its replies end."""
        self.swallow_up = self.swallow_down = False

    @property
    def subscribes(self) -> bool:
        """It has asked for a subscription."""
        return self.replies is not None

    async def upward(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            if self.replies is None and _SUBSCRIBE in data:
                self.replies = Replies()  # a connection for subscriptions alone: it has no other reply under way
            await self.proxy.pass_up()
            if self.server.transport.is_closing():
                return
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
            await self.proxy.pass_down()
            if self.swallow_down:
                continue
            if self.cut is None and not self.client.transport.is_closing():
                self.client.write(self._without_lost(self.proxy.rewrite(data)))
                await self.client.drain()

    def _without_lost(self, data: bytes) -> bytes:
        """`data` without the published messages that get lost, each whole."""
        if self.replies is None:
            return data
        kept = []
        for reply in self.replies.feed(data):
            if is_published(reply) and self.proxy.loses():
                self.proxy.lost += 1
            else:
                kept.append(reply)
        return b"".join(kept)

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens on a free loopback port (or `listen`) and passes bytes on to `host:port` (or the unix socket `path`).

    Attributes:
        delay_up_s / delay_down_s: Held back before each chunk to / from the server.
        rewrite: Applied to each chunk from the server; must keep lengths where the protocol counts them.
        loses: Asked for each published message on its way to a subscriber: whether it gets lost. `lost` counts them.
        buffer_bytes: What the system may hold of what the server sent; 0: as it likes.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, path: str | None = None, listen: int = 0, buffer_bytes: int = 0
    ) -> None:
        self._target = (host, port)
        self._listen = listen
        self._path = path
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self.release()
        self.buffer_bytes = buffer_bytes
        self.refusing = False
        self.loses: Callable[[], bool] = bool
        self.lost = 0
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
        self.release()
        self.drop_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what a test does to it

    def cut_after(self, match: bytes) -> Cut:
        """The next request that holds `match` reaches the server and is done; its reply and the connection are lost."""
        cut = Cut(match)
        self.cuts.append(cut)
        return cut

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """From now on no byte passes to the server (`up`), nor from it (`down`); connections stay open."""
        if up:
            self._up.clear()
        if down:
            self._down.clear()

    def release(self) -> None:
        """Let all that was held pass."""
        self._up.set()
        self._down.set()

    def heal(self) -> None:
        """Be a good network again, in every respect."""
        self.delay_up_s = self.delay_down_s = 0.0
        self.refusing = False
        self.loses = bool
        self.cuts.clear()
        self.release()

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

    async def pass_up(self) -> None:
        if self.delay_up_s:
            await asyncio.sleep(self.delay_up_s)
        await self._up.wait()

    async def pass_down(self) -> None:
        if self.delay_down_s:
            await asyncio.sleep(self.delay_down_s)
        await self._down.wait()

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
        server_reader, server_writer = await self._open_server()
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

    async def _open_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._path:
            return await asyncio.open_unix_connection(self._path)
        if not self.buffer_bytes:
            return await asyncio.open_connection(*self._target)
        plug = socket.socket()
        try:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer_bytes)
            plug.setblocking(False)
            await asyncio.get_running_loop().sock_connect(plug, self._target)
            return await asyncio.open_connection(sock=plug)
        except BaseException:
            with contextlib.suppress(OSError):
                plug.close()
            raise
