"""One WebSocket connection: bytes in, frames out. What is said on it is the dialogue's business.

An `asyncio.Protocol` around the sans-I/O `ServerProtocol` of websockets; uvicorn hands a connection over, with the
request that it has read, when that asks for an upgrade.

Memory is bounded whatever a client does: while more than `OUT_BYTES` wait for it, its followers are cut from the live
feed, and what it says isn't read; while as many of its messages wait for answers as may, no more are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from orbit.edge.access import Rights
from orbit.edge.conversation import Conversation
from orbit.edge.dialogue import Dialogue
from orbit.edge.handshake import PlainRequest, judge, refusal, rights_of
from orbit.edge.plain import Plain
from orbit.errors import ProtocolError, RequestError
from orbit.protocol.codecs import CODECS, Codec

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

log = logging.getLogger("orbit.edge.websocket")
log.setLevel(logging.INFO)  # below that the WebSocket layer writes down what it reads: tokens, sessions

OUT_BYTES = 256 * 1024
WATER_BYTES = 16 * 1024
"""What the transport keeps for a client beyond what the system takes, before it gets nothing more."""
TURNS = 4
CLOSE_S = 5.0
BAD_MESSAGE = 4400


class Connection(asyncio.Protocol):
    """A connection of one client, from its handshake on."""

    codec: Codec
    transport: asyncio.Transport

    def __init__(
        self,
        edge: Edge,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.id = edge.new_connection_id()
        self.address: str | None = None
        self.turns = asyncio.Semaphore(TURNS)
        self.conversation: Conversation | None = None
        self._edge = edge
        self._peers: set[Any] = server_state.connections
        self._loop = asyncio.get_running_loop()
        self._ws = ServerProtocol(
            subprotocols=[Subprotocol(name) for name in CODECS], max_size=edge.config.limits.frame_bytes, logger=log
        )
        self._frames: deque[tuple[bytes, bool]] = deque()
        self._messages: deque[Any] = deque()
        self._part: bytearray | None = None
        self._part_is_text = False
        self._part_since: float | None = None
        self._taking = False
        self._reading_paused = False
        self._writing_paused = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_due = False
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._heard_at = self._pinged_at = self._took_at = self._loop.time()
        self._waited_bytes = 0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WATER_BYTES)
        self._peers.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._ws.receive_data(data)
        self._after_receiving()

    def eof_received(self) -> None:
        self._ws.receive_eof()
        self._after_receiving()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._note_room()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._note_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._peers.discard(self)
        self._edge.forget(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._frames.clear()
        self._messages.clear()
        self._out.clear()
        self._room.set()
        if self.conversation is not None:
            self.conversation.leave()

    # ---- what the process asks

    def shutdown(self) -> None:
        """The server closes (uvicorn calls it)."""
        self.close(CloseCode.SERVICE_RESTART, "the edge restarts")

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake; the transport is cut when the client doesn't go along."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
        elif self._ws.state is State.CONNECTING and not self._closed:
            self.transport.close()
        self._send_control()

    def go_away(self, reconnect_after_ms: int) -> None:
        if not self.closed and self.conversation is not None:
            self.conversation.go_away(reconnect_after_ms)

    def tick(self, now: float) -> None:
        """Keepalive: look whether the client is still there."""
        pulse = self._edge.config.pulse
        if self._closed:
            return
        waiting = self.transport.get_write_buffer_size()
        if not waiting or waiting < self._waited_bytes:
            self._took_at = now
        self._waited_bytes = waiting
        if now - self._took_at > pulse.stall_s:
            self.transport.abort()
        elif self.closed:
            return
        elif self._reading_paused or self.choked:
            self._heard_at = now  # it can't be heard, or its pong waits behind what it doesn't read
            self._part_since = None
        elif self._part_since is not None and now - self._part_since > pulse.silence_s:
            self._ws.fail(CloseCode.POLICY_VIOLATION, "a message took too long to come")
            self._send_control()
        elif now - self._heard_at > pulse.silence_s:
            self._ws.fail(CloseCode.INTERNAL_ERROR, "no answer to pings")
            self._send_control()
        elif now - max(self._heard_at, self._pinged_at) > pulse.ping_s:
            self._pinged_at = now
            self._ws.send_ping(b"")
            self._send_control()

    # ---- out

    @property
    def closed(self) -> bool:
        return self._closed or self._ws.state is not State.OPEN

    @property
    def choked(self) -> bool:
        return self._writing_paused or self._out_bytes > OUT_BYTES

    @property
    def waiting_bytes(self) -> int:
        """What the client hasn't taken yet."""
        return self._out_bytes + self.transport.get_write_buffer_size()

    def write(self, frames: bytes) -> None:
        """Whole frames; what one pass of the loop writes goes out together."""
        if self.closed:
            return
        self._put(frames)

    async def writable(self) -> None:
        """Return when the client has room, or is gone."""
        if self._flush_due:
            await asyncio.sleep(0)  # only then it shows whether the client takes what was written
        await self._room.wait()

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        if self._out_bytes > OUT_BYTES:
            self._note_room()

    def _flush(self) -> None:
        self._flush_due = False
        out, self._out, self._out_bytes = self._out, [], 0
        if self._closed or self.transport.is_closing():
            return
        self.transport.write(out[0] if len(out) == 1 else b"".join(out))
        self._note_room()

    def _note_room(self) -> None:
        if self.choked and not self._closed:
            self._room.clear()
        elif not self._room.is_set():
            self._room.set()
            self._loop.call_soon(self.take_more)

    def _send_control(self) -> None:
        """Write what the WebSocket layer has to say: the handshake, pongs, closing."""
        for data in self._ws.data_to_send():
            if data:
                self._put(data)
            else:
                self._loop.call_soon(self._end_writing)
        if self._ws.close_expected() and self._close_timer is None:
            self._close_timer = self._loop.call_later(CLOSE_S, self._cut)
            self._pause_reading(False)

    def _end_writing(self) -> None:
        if not self._closed and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()
        elif not self._closed:
            self.transport.close()

    def _cut(self) -> None:
        """It doesn't answer the closing. Where it still has to take what was said before, `tick` judges that."""
        if self._closed:
            return
        if self.waiting_bytes:
            self._close_timer = self._loop.call_later(CLOSE_S, self._cut)
        else:
            self.transport.abort()

    # ---- in

    def _after_receiving(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                self._take_frame(event)
        self._note_part()
        self._send_control()
        self.take_more()

    def _note_part(self) -> None:
        """Since when there has been a part of a message, and no whole one came."""
        if self._part is None and not self._ws.reader.buffer:
            self._part_since = None
        elif self._part_since is None:
            self._part_since = self._loop.time()

    def _shake_hands(self, request: Request) -> None:
        try:
            plain = judge(self._edge, request)
            rights = rights_of(self._edge, request)
        except RequestError as error:
            self._ws.send_response(refusal(self._ws, error))
            return
        if plain is not None:
            self._ws.available_subprotocols = None
        response = self._ws.accept(request)
        if response.status_code != 101:
            self._ws.send_response(refusal(self._ws, RequestError(response.body.decode().strip()), response))
            return
        peer = self.transport.get_extra_info("peername")
        said = request.headers.get_all("X-Forwarded-For")
        self.address = self._edge.address_of(str(peer[0]) if isinstance(peer, tuple) else None, said)
        self._edge.take_in(self)
        if plain is not None and rights is not None:
            self._attach_first(plain, rights, response)
        else:
            self._ws.send_response(response)
            self.codec = CODECS[str(self._ws.subprotocol)]
            self.conversation = Dialogue(self._edge, self, rights)
            self._edge.metrics.opened.inc()

    def _attach_first(self, plain: PlainRequest, rights: Rights, response: Response) -> None:
        """In plain mode the handshake is answered when the attach is."""

        def answer(refused: RequestError | None) -> None:
            self._ws.send_response(response if refused is None else refusal(self._ws, refused))
            if refused is None:
                self._edge.metrics.opened.inc()
            else:
                self._edge.forget(self)
            self._send_control()
            self._loop.call_soon(self.take_more)

        self.conversation = conversation = Plain(self._edge, self, rights, plain, answer)
        conversation.begin()

    def _take_frame(self, frame: Frame) -> None:
        """Join the parts of a message."""
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY if frame.fin:
                self._frames.append((bytes(frame.data), frame.opcode is Opcode.TEXT))
                self._part_since = None
            case Opcode.TEXT | Opcode.BINARY:
                self._part, self._part_is_text = bytearray(frame.data), frame.opcode is Opcode.TEXT
            case Opcode.CONT if self._part is not None:
                self._part += frame.data
                if frame.fin:
                    self._frames.append((bytes(self._part), self._part_is_text))
                    self._part = None
                    self._part_since = None

    def take_more(self) -> None:
        """Hand what the client said to the dialogue, as far as there is room for its answers."""
        if self._taking or self.conversation is None:
            return
        self._taking = True
        try:
            while self._roomy(self.conversation) and self._next_message(self.conversation):
                self.conversation.receive(self._messages.popleft())
        finally:
            self._taking = False
        self._pause_reading(bool(self._messages or self._frames) or self.choked)

    def _roomy(self, conversation: Conversation) -> bool:
        return not self.closed and not self.choked and not conversation.full

    def _next_message(self, conversation: Conversation) -> bool:
        while not self._messages and self._frames:
            payload, text = self._frames.popleft()
            try:
                self._messages.extend(conversation.read(payload, text=text))
            except ProtocolError as error:
                self._fail(str(error))
        return bool(self._messages)

    def _fail(self, reason: str) -> None:
        """The client speaks another language."""
        self._frames.clear()
        self._messages.clear()
        if self._ws.state is State.OPEN:
            self._ws.fail(BAD_MESSAGE, reason.encode()[:120].decode(errors="ignore"))
            self._send_control()

    def _pause_reading(self, pause: bool) -> None:
        if pause is self._reading_paused or self._closed or self.transport.is_closing():
            return
        if self._ws.close_expected() and pause:
            return
        self._reading_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self._heard_at = self._loop.time()
            self.transport.resume_reading()
