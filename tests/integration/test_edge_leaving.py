"""An edge that leaves, one that dies, and Redis that goes away, comes back, or lost something."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from orbit.config import Timing
from orbit.edge import EdgeConfig, run_edge
from orbit.edge.attachment import Attachment
from orbit.edge.server import CannotListen
from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from tests.integration.edge_bench import QUICK, Hand, RunningEdge, attach, closed_with, take, updates

ANN = "ann-" + "a" * 16


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    """A server of its own, to be taken away."""
    async with EmbeddedServer(config={"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


@pytest.fixture
async def own_store(server: EmbeddedServer) -> AsyncIterator[Store]:
    store = await Store.open(server.url, StoreSettings(partitions=4, grace_s=0.05))
    yield store
    await store.close()


@pytest.fixture
async def edge(server: EmbeddedServer, own_store: Store) -> AsyncIterator[RunningEdge]:
    edge = await RunningEdge(server.url, "orbit").start()
    yield edge
    await edge.close()


async def until_alone(hand: Hand) -> None:
    while (await hand.store.sessions(hand.tx))[1]:
        pass


# ---- draining


async def test_a_drain(redis_url: str, namespace: str, store: Store) -> None:
    edge = await RunningEdge(redis_url, namespace, {"timing": Timing(drain_s=10)}).start()
    hand = await Hand.start(store)
    links = [await edge.link() for _ in range(5)]
    for n, link in enumerate(links):
        await attach(link, hand, session=f"{ANN}-{n}")
    edge.stop.set()
    times = [(await link.expect("goaway"))["reconnect_after_ms"] for link in links]
    assert times == sorted(set(times))
    assert times[0] == 0
    assert times[-1] < 10_000
    assert (await edge.http.get("/readyz")).status_code == 503
    assert (await edge.http.get("/livez")).status_code == 200
    with pytest.raises(InvalidStatus, match="503"):
        await edge.link()
    await hand.update("all else stays valid")
    assert await updates(links[4], 1) == ["all else stays valid"]
    assert [await closed_with(link) for link in links] == [1012] * 5
    await edge.task
    assert (await store.sessions(hand.tx))[1] == 0
    await edge.close()


async def test_a_drain_ends_when_the_last_client_has_left(redis_url: str, namespace: str, store: Store) -> None:
    edge = await RunningEdge(redis_url, namespace, {"timing": Timing(drain_s=50)}).start()
    link = await edge.link()
    edge.stop.set()
    await link.expect("goaway")
    await link.close()
    await edge.task
    await edge.close()


async def test_who_waits_for_a_result_is_answered_when_the_edge_leaves(
    redis_url: str, namespace: str, store: Store
) -> None:
    edge = await RunningEdge(redis_url, namespace).start()
    hand = await Hand.start(store)
    waiting = asyncio.create_task(edge.http.get(f"/v1/transactions/{hand.tx}/result?wait_s=50", timeout=60))
    while await edge.counted("watched") != 1:
        pass
    edge.stop.set()
    assert (await waiting).status_code == 202
    await edge.task
    await edge.close()


async def test_stopped_before_redis_is_there() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    stop = asyncio.Event()
    config = EdgeConfig("unix:///nonexistent/redis", port=0, say=said.put_nowait, stop=stop)
    running = asyncio.create_task(run_edge(config))
    assert "waiting for Redis" in await said.get()
    stop.set()
    await running


async def test_a_port_in_use(server: EmbeddedServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match="in use"):
            await run_edge(EdgeConfig(server.url, port=port))


# ---- an edge that dies


async def test_the_places_of_a_dead_edge_are_freed_by_another(redis_url: str, namespace: str, store: Store) -> None:
    dead = await RunningEdge(redis_url, namespace).start()
    hand = await Hand.start(store, hooks=True)
    link = await dead.link()
    await attach(link, hand, session=ANN)
    dead.task.cancel()
    await asyncio.gather(dead.task, return_exceptions=True)
    alive = await RunningEdge(redis_url, namespace).start()
    await until_alone(hand)
    await dead.close()
    await alive.close()


# ---- Redis away


async def test_redis_away_and_back(edge: RunningEdge, own_store: Store, server: EmbeddedServer) -> None:
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await hand.update("before")
    assert await updates(link, 1) == ["before"]
    server.kill()
    await edge.until_ready(503)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    answer = await link.expect("rejected", "error")
    assert answer["code"] == "unavailable"
    other = await edge.link()
    error = await attach(other, hand)
    assert (error["type"], error["code"], error["op"]) == ("error", "unavailable", "attach")
    assert error["retry_after_ms"] > 0
    response = await edge.http.get(f"/v1/transactions/{hand.tx}")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["retry-after"] == "1"
    await server.start()
    await edge.until_ready()
    await hand.update("after")
    assert await updates(link, 1) == ["after"]
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    assert (await link.expect("receipt", "rejected", "error"))["type"] == "receipt"
    assert (await attach(other, hand, after="$"))["type"] == "attached"


async def test_sessions_that_left_while_redis_was_away(
    edge: RunningEdge, own_store: Store, server: EmbeddedServer
) -> None:
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand, session=ANN)
    server.kill()
    link.abort()
    while await edge.counted("connections "):
        pass
    await server.start()
    await until_alone(hand)


class Past:
    """A transaction as Redis held it once, to go back to."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.key = hand.store.keys.transaction(hand.tx)
        self.kept: dict[bytes, bytes] = {}

    async def remember(self) -> None:
        for key in await self.hand.store.link.read("KEYS", f"{self.key}*"):
            self.kept[key] = await self.hand.store.link.read("DUMP", key)

    async def return_to(self) -> None:
        """Redis fails over to a replica that lacked the newest writes: connections break, and the writes are gone."""
        link = self.hand.store.link
        for key in await link.read("KEYS", f"{self.key}*"):
            if key not in self.kept:
                await link.write("DEL", key)
        for key, dump in self.kept.items():
            await link.write("RESTORE", key, 0, dump, "REPLACE")
        await link.write("CLIENT", "KILL", "TYPE", "pubsub")


async def test_a_rewind_of_the_log_is_told(edge: RunningEdge, own_store: Store) -> None:
    hand = await Hand.start(own_store)
    ahead, behind = await edge.link(), await edge.link()
    await attach(ahead, hand, session=ANN)
    await hand.update("kept")
    await attach(behind, hand)
    assert await updates(ahead, 1) == await updates(behind, 1) == ["kept"]
    cursor = (await attach(behind, hand, after="$"))["cursor"]
    past = Past(hand)
    await past.remember()
    await behind.close()
    await hand.update("lost")
    assert await updates(ahead, 1) == ["lost"]
    await past.return_to()
    reset = await ahead.expect("reset")
    assert (reset["reason"], reset["cursor"], reset["last_mid"]) == ("rewound", "0", 0)
    assert await updates(ahead, 1) == ["kept"]
    behind = await edge.link()
    await attach(behind, hand, after=cursor)
    hand.number = 1
    await hand.update("instead")
    assert await updates(ahead, 1) == await updates(behind, 1) == ["instead"]


async def test_messages_that_redis_lost_are_told(edge: RunningEdge, own_store: Store) -> None:
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await hand.update("kept")
    assert await updates(link, 1) == ["kept"]
    past = Past(hand)
    await past.remember()
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    await link.expect("receipt")
    await past.return_to()
    reset = await link.expect("reset")
    assert (reset["reason"], reset["last_mid"]) == ("rewound", 0)
    assert await updates(link, 1) == ["kept"]
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "another"})
    assert (await link.expect("receipt"))["duplicate"] is False


async def test_a_receipt_that_came_after_the_check_is_checked_too(
    edge: RunningEdge, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis stores a message and fails over to a replica without it; the sessions are checked, and nothing is lost that
    they know of. Then comes the answer, over the connection of before."""
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand, session=ANN)
    past = Past(hand)
    await past.remember()
    checked = asyncio.Event()
    append, check = Store.append, Attachment.recheck

    async def slow(store: Store, *args: Any) -> Any:
        answer = await append(store, *args)
        await past.return_to()
        await checked.wait()
        return answer

    async def noted(attachment: Attachment) -> None:
        await check(attachment)
        checked.set()

    monkeypatch.setattr(Store, "append", slow)
    monkeypatch.setattr(Attachment, "recheck", noted)
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    await link.expect("receipt")
    assert (await link.expect("reset"))["last_mid"] == 0


async def test_a_place_that_redis_lost_is_taken_again(edge: RunningEdge, own_store: Store) -> None:
    hand = await Hand.start(own_store)
    past = Past(hand)
    await past.remember()
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await past.return_to()
    while not (await own_store.sessions(hand.tx))[1]:
        pass
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    assert (await link.expect("receipt", "rejected", "error"))["type"] == "receipt"


async def test_a_transaction_that_redis_lost(edge: RunningEdge, own_store: Store) -> None:
    hand, other = await Hand.start(own_store), await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await attach(link, other, session=ANN)
    await Past(hand).return_to()
    error = await link.expect("error")
    assert (error["code"], error["tx"], error.get("op")) == ("not_found", hand.tx, None)
    await other.update("goes on")
    assert await updates(link, 1) == ["goes on"]


async def test_a_subscription_that_breaks_costs_nothing(edge: RunningEdge, own_store: Store) -> None:
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand)
    for n in range(200):
        if n % 20 == 0:
            await own_store.link.write("CLIENT", "KILL", "TYPE", "pubsub")
        await hand.update(n)
    assert await updates(link, 200) == list(range(200))


async def test_a_drain_after_a_gap_lets_its_clients_stay_as_long(server: EmbeddedServer, own_store: Store) -> None:
    """The subscription breaks; the edge looks at everything again; then it drains, with its clients still counted."""
    edge = await RunningEdge(server.url, "orbit", {"timing": Timing(drain_s=20)}).start()
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand)
    await own_store.link.write("CLIENT", "KILL", "TYPE", "pubsub")
    await edge.until_ready()
    await hand.update(1)
    assert await updates(link, 1) == [1]
    before = asyncio.get_running_loop().time()
    edge.stop.set()
    await link.expect("goaway")
    await hand.update(2)
    assert await updates(link, 1) == [2]
    assert await closed_with(link) == 1012
    assert asyncio.get_running_loop().time() - before > 4.5, "it may stay for 5 of the 20 s"
    await edge.close()


async def test_an_end_that_was_never_heard_is_found(edge: RunningEdge, own_store: Store) -> None:
    hand = await Hand.start(own_store)
    link = await edge.link()
    await attach(link, hand)
    await own_store.link.write("CLIENT", "KILL", "TYPE", "pubsub")
    await hand.finish()
    assert [message["type"] for message in await take(link, 1, "end", "error", "reset")] == ["end"]


async def test_unknown_requests_do_not_reach_uvicorns_own_words(edge: RunningEdge) -> None:
    """What isn't HTTP at all gets an answer and nothing else."""
    parts = urlsplit(edge.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


async def test_an_edge_is_quick_to_leave(server: EmbeddedServer, own_store: Store) -> None:
    edge = await RunningEdge(server.url, "orbit", {"pulse": QUICK}).start()
    edge.stop.set()
    await edge.task
    with pytest.raises(httpx.ConnectError):
        await edge.http.get("/livez")
    await edge.close()
