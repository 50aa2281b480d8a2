"""An edge whose every word a test says itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.waiting import PATIENCE_S

TX = "tx-0123456789abcdef"
SESSION = "session-0123456789"


def cursor(seq: int, epoch: int = 1) -> str:
    return f"{seq}-{epoch:019d}" if seq else "0"


class Peer:
    """One connection of the client, seen from the edge."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.headers = connection.request.headers if connection.request else {}
        self.done = asyncio.Event()

    async def hear(self) -> dict[str, Any]:
        """The client's next message."""
        async with asyncio.timeout(PATIENCE_S):
            message = json.loads(await self.connection.recv())
        assert isinstance(message, dict)
        return message

    async def hear_until(self, kind: str) -> dict[str, Any]:
        while (message := await self.hear())["type"] != kind:
            pass
        return message

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.connection.send(json.dumps({"tx": TX} | message))

    async def attached(self, at: int = 0, *, last_mid: int = 0, session: str = SESSION) -> dict[str, Any]:
        """Take an attach and grant it; returns it."""
        attach = await self.hear_until("attach")
        await self.say(
            {
                "type": "attached",
                "session": attach.get("session", session),
                "cursor": cursor(at),
                "status": "running",
                "last_mid": last_mid,
            }
        )
        return attach

    async def updates(self, *seqs: int) -> None:
        await self.say(*({"type": "update", "cursor": cursor(seq), "data": seq} for seq in seqs))

    async def receipt(self, mid: int, *, duplicate: bool = False) -> None:
        await self.say({"type": "receipt", "mid": mid, "duplicate": duplicate})

    async def refuse(self, mid: int, code: str, **more: Any) -> None:
        await self.say({"type": "rejected", "mid": mid, "code": code, "message": f"it is {code}", **more})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code, reason)
        self.done.set()

    def cut(self) -> None:
        """The connection breaks, without a word."""
        self.connection.transport.abort()
        self.done.set()


class ScriptedEdge:
    """Where the client's connections arrive."""

    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self._peers.put_nowait(peer)
        try:
            await connection.wait_closed()
        except ConnectionClosed:
            peer.done.set()

    async def peer(self) -> Peer:
        """The client's next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._peers.get()

    @property
    def nobody_came(self) -> bool:
        return self._peers.empty()


@asynccontextmanager
async def scripted_edge(subprotocol: str = "orbit.v1.json") -> AsyncIterator[ScriptedEdge]:
    edge = ScriptedEdge()
    server: Server
    async with serve(
        edge.handle, "127.0.0.1", 0, subprotocols=[Subprotocol(subprotocol)], ping_interval=None, close_timeout=0.1
    ) as server:
        edge.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield edge
