"""One connection, played from the client's end over a transport that only remembers."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from orbit.config import Limits
from orbit.edge.access import Access, Origins
from orbit.edge.admission import Admission
from orbit.edge.config import EdgeConfig, Pulse
from orbit.edge.connection import OUT_BYTES, Connection
from orbit.edge.edge import Edge
from orbit.edge.frames import frame
from orbit.edge.metrics import Metrics
from orbit.edge.rates import Rates
from orbit.edge.tasks import Tasks


class Wire(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = True
        self.eof = False
        self.cut = asyncio.Event()
        self.waiting = 0

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.most = high

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.aborted

    def close(self) -> None:
        self.eof = True

    @property
    def aborted(self) -> bool:
        return self.cut.is_set()

    def abort(self) -> None:
        self.cut.set()

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.waiting


class Ends:
    """Both ends of one connection."""

    def __init__(self, *, pulse: Pulse | None = None, draining: bool = False) -> None:
        config = EdgeConfig("", limits=Limits(frame_bytes=64 * 1024), pulse=pulse or Pulse())
        self.connections: dict[str, Connection] = {}
        edge = SimpleNamespace(
            config=config, metrics=Metrics(), tasks=Tasks(), draining=draining, store=None,
            new_connection_id=lambda: "1", access=Access(), origins=Origins(), rates=Rates(),
            address_of=lambda *_: None, let_in=lambda: None, admission=Admission(config.capacity),
            take_in=lambda connection: self.connections.update({connection.id: connection}),
            forget=lambda connection: self.connections.pop(connection.id, None),
        )  # fmt: skip
        self.state = ServerState()
        self.edge = Connection(
            cast(Edge, edge), config=cast(Any, None), server_state=self.state, app_state={}
        )
        self.wire = Wire()
        self.edge.connection_made(self.wire)
        self.events: list[Any] = []

    async def connect(
        self, *subprotocols: str, url: str = "ws://edge.test/v1/ws", headers: dict[str, str] | None = None
    ) -> Response:
        self.client = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(name) for name in subprotocols] or None, max_size=None
        )
        request = self.client.connect()
        request.headers.update(headers or {})
        self.client.send_request(request)
        await self.exchange()
        [response, *self.events] = self.events
        return cast(Response, response)

    async def open(self) -> None:
        assert (await self.connect("orbit.v1.json")).status_code == 101

    async def exchange(self) -> None:
        """Carry what either end says to the other, until both are quiet."""
        while True:
            out = b"".join(self.client.data_to_send())
            if out:
                self.edge.data_received(out)
            for _ in range(5):
                await asyncio.sleep(0)
            back = b"".join(self.wire.writes)
            self.wire.writes.clear()
            if back:
                self.client.receive_data(back)
                self.events += self.client.events_received()
            if not out and not back:
                return

    def client_frame(self, payload: bytes) -> bytes:
        """A masked text frame."""
        return Frame(Opcode.TEXT, payload).serialize(mask=True)

    async def say(self, *messages: Any) -> list[Any]:
        """Send each in a frame of its own; the answers."""
        for message in messages:
            self.client.send_text(json.dumps(message).encode())
        await self.exchange()
        return self.told()

    def told(self) -> list[Any]:
        texts = [event.data for event in self.events if isinstance(event, Frame) and event.opcode is Opcode.TEXT]
        self.events = [event for event in self.events if event.opcode is not Opcode.TEXT]
        return [json.loads(text) for text in texts]

    def closed_with(self) -> int:
        [data] = [event.data for event in self.events if isinstance(event, Frame) and event.opcode is Opcode.CLOSE]
        return Close.parse(data).code


# ---- the handshake


@pytest.mark.parametrize("name", ["orbit.v1.json", "orbit.v1.msgpack"])
async def test_either_subprotocol_is_taken(name: str) -> None:
    ends = Ends()
    response = await ends.connect("something.else", name)
    assert response.status_code == 101
    assert ends.client.subprotocol == name
    assert ends.connections
    assert ends.edge in ends.state.connections


@pytest.mark.parametrize(
    ("subprotocols", "url", "headers", "status", "code"),
    [
        ((), "ws://edge.test/v1/ws", {}, 400, "bad_request"),
        (("other",), "ws://edge.test/v1/ws", {}, 400, "bad_request"),
        (("orbit.v1.json",), "ws://edge.test/v1/other", {}, 404, "not_found"),
        (("orbit.v1.json",), "ws://edge.test/v1/ws", {"Origin": "http://evil.test"}, 403, "forbidden"),
        (("orbit.v1.json",), "ws://edge.test/v1/ws", {"Origin": "null"}, 403, "forbidden"),
    ],
)
async def test_a_refused_handshake_is_an_http_answer(
    subprotocols: tuple[str, ...], url: str, headers: dict[str, str], status: int, code: str
) -> None:
    ends = Ends()
    response = await ends.connect(*subprotocols, url=url, headers=headers)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.body)["error"]["code"] == code
    assert ends.wire.eof
    assert not ends.connections


async def test_a_page_of_the_same_origin_may_connect() -> None:
    ends = Ends()
    assert (await ends.connect("orbit.v1.json", headers={"Origin": "http://edge.test"})).status_code == 101


async def test_nobody_is_let_in_while_the_edge_drains() -> None:
    ends = Ends(draining=True)
    response = await ends.connect("orbit.v1.json")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


# ---- messages


async def test_messages_one_by_one_and_in_arrays() -> None:
    ends = Ends()
    await ends.open()
    told = await ends.say({"type": "ping", "nonce": 1}, [{"type": "ping", "nonce": 2}, {"type": "ping"}])
    assert told == [{"type": "pong", "nonce": 1}, {"type": "pong", "nonce": 2}, {"type": "pong"}]


async def test_each_message_is_judged_alone() -> None:
    ends = Ends()
    await ends.open()
    told = await ends.say([{"type": "dance"}, 7, {"type": "ping", "nonce": 1}])
    assert [message["type"] for message in told] == ["error", "error", "pong"]
    assert [message["code"] for message in told[:2]] == ["bad_request", "bad_request"]


async def test_a_message_in_parts() -> None:
    ends = Ends()
    await ends.open()
    ends.client.send_text(b'{"type":"pi', fin=False)
    ends.client.send_continuation(b"", fin=False)
    ends.client.send_ping(b"between")
    ends.client.send_continuation(b'ng"}', fin=True)
    await ends.exchange()
    assert ends.told() == [{"type": "pong"}]


async def test_byte_by_byte() -> None:
    ends = Ends()
    await ends.open()
    ends.client.send_text(b'{"type":"ping"}')
    for byte in b"".join(ends.client.data_to_send()):
        ends.edge.data_received(bytes([byte]))
    await ends.exchange()
    assert ends.told() == [{"type": "pong"}]


@pytest.mark.parametrize("text", [b"no JSON", b"\xff\xfe", b"[" * 50_000, b""])
async def test_what_can_not_be_read_closes_with_4400(text: bytes) -> None:
    ends = Ends()
    await ends.open()
    ends.client.send_text(text)
    await ends.exchange()
    assert ends.closed_with() == 4400
    assert ends.wire.eof


async def test_a_binary_frame_under_json_closes_with_4400() -> None:
    ends = Ends()
    await ends.open()
    ends.client.send_binary(b'{"type":"ping"}')
    await ends.exchange()
    assert ends.closed_with() == 4400


async def test_a_frame_over_the_limit_closes_with_1009() -> None:
    ends = Ends()
    await ends.open()
    ends.client.send_text(b" " * (64 * 1024 + 1))
    await ends.exchange()
    assert ends.closed_with() == 1009


# ---- writing


async def test_what_one_pass_of_the_loop_writes_goes_out_together() -> None:
    ends = Ends()
    await ends.open()
    for _ in range(10):
        ends.edge.write(frame(b"{}", text=True))
    await asyncio.sleep(0)
    assert ends.wire.writes == [frame(b"{}", text=True) * 10]


async def test_a_client_that_reads_slowly_is_not_heard_until_it_has_room() -> None:
    ends = Ends()
    await ends.open()
    ends.edge.pause_writing()
    assert ends.edge.choked
    waiting = asyncio.ensure_future(ends.edge.writable())
    assert await ends.say({"type": "ping"}) == []
    assert not ends.wire.reading
    assert not waiting.done()
    ends.edge.resume_writing()
    await waiting
    await ends.exchange()
    assert ends.told() == [{"type": "pong"}]
    assert ends.wire.reading


async def test_what_waits_for_this_pass_of_the_loop_counts_too() -> None:
    ends = Ends()
    await ends.open()
    ends.edge.write(b"x" * (OUT_BYTES + 1))
    assert ends.edge.choked
    await ends.edge.writable()
    assert not ends.edge.choked


async def test_pings_of_a_client_that_reads_nothing_are_bounded() -> None:
    ends = Ends()
    await ends.open()
    ends.edge.pause_writing()
    ends.client.send_ping(b"?")
    ends.edge.data_received(b"".join(ends.client.data_to_send()))
    assert not ends.wire.reading
    ends.edge.resume_writing()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ends.wire.reading


# ---- keepalive and closing


async def test_a_silent_client_is_pinged_and_then_cut() -> None:
    ends = Ends(pulse=Pulse(ping_s=20, silence_s=90))
    await ends.open()
    now = asyncio.get_running_loop().time()
    ends.edge.tick(now + 10)
    await asyncio.sleep(0)
    assert ends.wire.writes == []
    ends.edge.tick(now + 21)
    await ends.exchange()
    assert [event.opcode for event in ends.events] == [Opcode.PING]
    ends.edge.tick(now + 89)
    assert not ends.edge.closed
    ends.edge.tick(now + 200)
    await ends.exchange()
    assert ends.closed_with() == 1011


async def test_a_client_that_takes_nothing_is_cut_after_the_stall_time_alone() -> None:
    ends = Ends(pulse=Pulse(silence_s=90, stall_s=300))
    await ends.open()
    ends.edge.pause_writing()
    ends.wire.waiting = 100
    now = asyncio.get_running_loop().time()
    ends.edge.tick(now)
    ends.edge.tick(now + 299)
    assert not ends.wire.aborted
    ends.wire.waiting = 99
    ends.edge.tick(now + 310)
    assert not ends.wire.aborted
    ends.edge.tick(now + 620)
    assert ends.wire.aborted


async def test_a_message_that_takes_too_long_to_come_closes_with_1008() -> None:
    """Byte by byte it would be waited for, and kept, for ever."""
    ends = Ends(pulse=Pulse(ping_s=20, silence_s=90))
    await ends.open()
    frame = ends.client_frame(b'{"type":"ping"}' * 10)
    ends.edge.data_received(frame[:5])
    now = asyncio.get_running_loop().time()
    ends.edge.data_received(frame[5:6])
    ends.edge.tick(now + 80)
    assert not ends.edge.closed
    ends.edge._heard_at = now + 80  # more of it comes all the time
    ends.edge.tick(now + 100)
    await ends.exchange()
    assert ends.closed_with() == 1008


async def test_messages_one_after_the_other_may_go_on_for_ever() -> None:
    ends = Ends(pulse=Pulse(ping_s=20, silence_s=90))
    await ends.open()
    frame = ends.client_frame(b'{"type":"ping"}')
    ends.edge.data_received(frame[:5])
    now = asyncio.get_running_loop().time()
    ends.edge._part_since = now - 80
    ends.edge.data_received(frame[5:] + frame[:5])
    ends.edge._heard_at = now + 15
    ends.edge.tick(now + 15)
    assert not ends.edge.closed, "the one that is there in part has just begun"


async def test_closing_by_the_client() -> None:
    ends = Ends()
    await ends.open()
    ends.client.send_close(1000)
    await ends.exchange()
    assert ends.closed_with() == 1000
    assert ends.wire.eof
    ends.edge.connection_lost(None)
    assert not ends.connections
    assert not ends.state.connections


async def test_shutdown_says_1012_and_cuts_who_does_not_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orbit.edge.connection.CLOSE_S", 0.0)
    ends = Ends()
    await ends.open()
    ends.edge.shutdown()
    ends.edge.shutdown()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ends.client.receive_data(b"".join(ends.wire.writes))
    ends.events += ends.client.events_received()
    assert ends.closed_with() == 1012
    await ends.wire.cut.wait()


async def test_going_away() -> None:
    ends = Ends()
    await ends.open()
    ends.edge.go_away(250)
    await ends.exchange()
    assert ends.told() == [{"type": "goaway", "reconnect_after_ms": 250}]
    assert ends.client.state is State.OPEN


async def test_nothing_is_written_after_the_end() -> None:
    ends = Ends()
    await ends.open()
    ends.edge.connection_lost(ConnectionResetError())
    ends.edge.write(frame(b"{}", text=True))
    ends.edge.go_away(1)
    ends.edge.shutdown()
    await ends.edge.writable()
    await asyncio.sleep(0)
    assert ends.wire.writes == []
