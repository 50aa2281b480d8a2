"""Plain mode: one transaction on a WebSocket that speaks no subprotocol.

To the client each update is a frame, and each of its frames is a message. To the edge's own dialogue this is one more
client: it attaches, numbers the messages and sends again what could not be stored, by the rules of `ClientSession`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from websockets.frames import CloseCode

from orbit.edge.access import Rights
from orbit.edge.attachment import Attachment
from orbit.edge.conversation import Line
from orbit.edge.dialogue import Dialogue
from orbit.edge.frames import frame, payloads
from orbit.edge.handshake import PlainRequest
from orbit.errors import REQUEST_ERRORS, Internal, ProtocolError, RequestError
from orbit.protocol.codecs import MSGPACK, Codec
from orbit.protocol.entries import ENDED
from orbit.protocol.json_codec import json_dumps
from orbit.protocol.messages import Attach, Attached, EdgeMessage, End, Error, Rejected, Reset, Update, Value
from orbit.protocol.sessions import ClientSession, Refused, Stored

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

WINDOW: Final = 16
"""How many of its messages are taken before they are stored."""
REASON_BYTES: Final = 120

MESSAGE_REFUSED, RESET, REPLACED, DEFECT = 4408, 4409, 4410, 4500
CLOSE_CODES: Final[dict[str, int]] = {
    "bad_request": 4400, "unauthorized": 4401, "forbidden": 4403, "not_found": 4404, "gone": 4404,
    "replaced": REPLACED, "too_large": CloseCode.MESSAGE_TOO_BIG, "internal": DEFECT,
}  # fmt: skip
"""The close code of an error that isn't one of the State's; what isn't here is `TRY_AGAIN_LATER`."""


class Plain:
    """The conversation with a client in plain mode, and the line of the dialogue that is held for it.

    Args:
        answer: Called once with why the client isn't let in, or None: then the handshake is to be answered before
            this returns, or what is written kept until it is.
    """

    codec: Codec = MSGPACK

    def __init__(
        self,
        edge: Edge,
        connection: Line,
        rights: Rights,
        request: PlainRequest,
        answer: Callable[[RequestError | None], None],
    ) -> None:
        self.id = connection.id
        self._connection = connection
        self._answer = answer
        self._session = ClientSession(request.tx, request.after, request.session)
        self._patience_s = edge.config.pulse.patience_s
        self._let_in = self._gone = False
        self._retry: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._dialogue = Dialogue(edge, self, rights)

    def begin(self) -> None:
        """Attach; `answer` is called when that is answered."""
        attach = self._session.attach()
        self._dialogue.receive(Attach(attach.tx, attach.after, attach.session))

    # ---- what is said, as the connection sees it

    @property
    def attachments(self) -> dict[str, Attachment]:
        return self._dialogue.attachments

    @property
    def full(self) -> bool:
        """As many messages wait to be stored as may, or storing them is refused for now."""
        return not self._let_in or self._patience is not None or self._session.waiting >= WINDOW

    def read(self, payload: bytes, *, text: bool) -> list[str | bytes]:
        """The one message of a frame. Raises ProtocolError."""
        try:
            return [payload.decode() if text else payload]
        except UnicodeDecodeError:
            raise ProtocolError("not UTF-8") from None

    def receive(self, message: str | bytes) -> None:
        self._session.put(message)
        self._send()

    def go_away(self, reconnect_after_ms: int) -> None:
        """There is no frame that says it: the connection is closed when the client is to go."""
        self._loop.call_later(
            reconnect_after_ms / 1000, self._connection.close, CloseCode.SERVICE_RESTART, "the edge restarts"
        )

    def leave(self) -> None:
        """The connection is gone."""
        self._gone = True
        self._stop_waiting()
        self._dialogue.leave()

    # ---- the line, as the dialogue sees it

    @property
    def address(self) -> str | None:
        return self._connection.address

    @property
    def closed(self) -> bool:
        return self._gone or (self._let_in and self._connection.closed)

    @property
    def choked(self) -> bool:
        return self._connection.choked

    @property
    def turns(self) -> asyncio.Semaphore:
        return self._connection.turns

    def close(self, code: int, reason: str = "") -> None:
        self._connection.close(code, reason.encode()[:REASON_BYTES].decode(errors="ignore"))

    async def writable(self) -> None:
        await self._connection.writable()

    def take_more(self) -> None:
        self._connection.take_more()

    def write(self, frames: bytes) -> None:
        for payload, _ in payloads(frames):
            for message in MSGPACK.decode_edge(payload):
                self._hear(message)

    # ---- what the edge says

    def _hear(self, message: EdgeMessage) -> None:
        if self.closed:
            return
        for fate in self._session.on_message(message, self._loop.time()):
            match fate:
                case Stored():
                    self._stop_waiting()
                case Refused(code=code, message=text) if code != "ended":
                    self._close_for(code, text)
        match message:
            case Attached():
                self._let_in = True
                self._answer(None)
                if message.status in ENDED and self._nothing_after(message.cursor):
                    self._close(CloseCode.NORMAL_CLOSURE, message.status)
            case Update():
                self._tell(message.data)
            case Reset():
                self._close(RESET, f"reset: {message.reason}")
            case Rejected(cursor=str()) if message.code != "ended":
                self._close(MESSAGE_REFUSED, f"{message.code}: {message.message}")
            case End():
                self._close(CloseCode.NORMAL_CLOSURE, message.status)
            case Error(op="attach"):
                kind = REQUEST_ERRORS.get(message.code, Internal)
                self._answer(kind(message.message, retry_after_ms=message.retry_after_ms))
            case Error(op=None):
                self._close_for(message.code, message.message)
        self._send()

    def _nothing_after(self, cursor: str) -> bool:
        feed = self._dialogue.attachments[self._session.tx].watch.feed
        return feed is not None and str(feed.head) == cursor

    def _tell(self, data: Value) -> None:
        match data:
            case str():
                self._connection.write(frame(data.encode(), text=True))
            case bytes():
                self._connection.write(frame(data, text=False))
            case _:
                self._connection.write(frame(json_dumps(data), text=True))

    def _close_for(self, code: str, text: str) -> None:
        self._close(CLOSE_CODES.get(code, CloseCode.TRY_AGAIN_LATER), f"{code}: {text}")

    def _close(self, code: int, reason: str) -> None:
        self._stop_waiting()
        self.close(code, reason)

    # ---- what the client says

    def _send(self) -> None:
        """Send what is due; where that is to wait, so does whatever the client says next, for a while."""
        if self.closed:
            return
        if self._session.must_attach:
            self._close(CloseCode.TRY_AGAIN_LATER, "unavailable: it isn't known what is stored")
            return
        now = self._loop.time()
        for message in self._session.due(now):
            self._dialogue.receive(message)
        due = self._session.next_due()
        if due is not None and due > now:
            self._wait(due - now)

    def _wait(self, seconds: float) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(seconds, self._send)
        if self._patience is None:
            self._patience = self._loop.call_later(
                self._patience_s, self._close, CloseCode.TRY_AGAIN_LATER, "messages can't be stored now"
            )

    def _stop_waiting(self) -> None:
        for timer in (self._retry, self._patience):
            if timer is not None:
                timer.cancel()
        self._retry = self._patience = None
        self._loop.call_soon(self.take_more)
