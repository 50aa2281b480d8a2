"""Clients that cost next to nothing: sockets and frames by hand, so that what is measured is the edge."""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgpack

HANDSHAKE = (
    "GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: orbit.v1.{codec}\r\n\r\n"
)
PING, OPENED = 9, -1


def handshake(url: str, codec: str) -> bytes:
    return HANDSHAKE.format(host=urlsplit(url).netloc, codec=codec).encode()


def attach(codec: str, tx: str, after: str = "$") -> bytes:
    """An attach as one frame, its mask 0."""
    told = {"type": "attach", "tx": tx, "after": after}
    payload, first = (msgpack.packb(told), 0x82) if codec == "msgpack" else (json.dumps(told).encode(), 0x81)
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


def connected(url: str, receive_bytes: int | None = None) -> socket.socket:
    """A connected socket, perhaps with a small window."""
    parts = urlsplit(url)
    made = socket.socket()
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.connect((parts.hostname, parts.port))
    return made


def stalled(url: str, tx: str, count: int) -> list[socket.socket]:
    """So many clients that ask for the log from its start, and never read."""
    sockets = []
    for _ in range(count):
        one = connected(url, 4096)
        one.sendall(handshake(url, "json"))
        one.recv(1)
        one.sendall(attach("json", tx, "0"))
        sockets.append(one)
    return sockets


class Frames:
    """Cuts what comes into frames (RFC 6455, section 5.2; unmasked, whole): their opcode and payload.

    The handshake's answer comes first.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._open = False

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"no WebSocket: {head.decode()}")
            self._open, self._buffer = True, rest
            yield OPENED, bytes(head)
        at, buffer = 0, self._buffer
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(buffer[start : start + width]), start + width
            if len(buffer) < start + size or start > len(buffer):
                break
            yield buffer[at] & 0x0F, bytes(buffer[start : start + size])
            at = start + size
        del buffer[:at]


class Reader(asyncio.Protocol):
    """Reads a `Ticker`'s updates, and how late each comes; it sees where one is missing."""

    def __init__(self, url: str, tx: str) -> None:
        self.samples_s: list[float] = []
        self.gaps = 0
        self._handshake, self._attach = handshake(url, "msgpack"), attach("msgpack", tx)
        self._frames = Frames()
        self._last: int | None = None

    @classmethod
    async def open(cls, url: str, tx: str) -> Reader:
        made_socket = connected(url)
        made_socket.setblocking(False)
        _, made = await asyncio.get_running_loop().create_connection(lambda: cls(url, tx), sock=made_socket)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        for opcode, payload in self._frames.feed(data):
            if opcode == OPENED:
                self.transport.write(self._attach)
                continue
            if opcode == PING:
                self.transport.write(b"\x8a\x80" + bytes(4))
                continue
            told = msgpack.unpackb(payload)
            for message in told if isinstance(told, list) else [told]:
                if message["type"] == "update":
                    n, at, *_ = message["data"]
                    self.gaps += self._last is not None and n != self._last + 1
                    self._last = n
                    self.samples_s.append(now - at)


def read_all(url: str, tx: str, clients: int, last: bytes) -> float:
    """So many clients that attach at once and read from the start to an update that holds `last`; how long that takes.

    Raises:
        SystemExit: One of them got less than another.
    """
    began = time.perf_counter()
    sockets = [connected(url) for _ in range(clients)]
    for one in sockets:
        one.sendall(handshake(url, "json"))
    for one in sockets:
        while not one.recv(65_536).endswith(b"\r\n\r\n"):
            pass
        one.sendall(attach("json", tx, "0"))
    sizes = dict.fromkeys(sockets, 0)
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        left = clients
        while left:
            for key, _ in selector.select():
                data = key.fileobj.recv(262_144)  # type: ignore[union-attr]
                sizes[key.fileobj] += len(data)  # type: ignore[index]
                if not data or last in data[-4096:]:
                    selector.unregister(key.fileobj)
                    left -= 1
    took = time.perf_counter() - began
    for one in sockets:
        one.close()
    if max(sizes.values()) - min(sizes.values()) > 0:
        raise SystemExit(f"some got {min(sizes.values())} bytes, some {max(sizes.values())}")
    return took
