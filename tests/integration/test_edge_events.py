"""Server-sent events and pages of updates: what browsers and scripts without a WebSocket follow by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from orbit.config import Timing
from orbit.protocol.cursors import Cursor
from orbit.protocol.ids import Epoch
from orbit.protocol.values import pack
from orbit.store.store import Store
from tests.integration.edge_bench import QUICK, Hand, RunningEdge, attach, closed_with

ANN, BOB = "ann-" + "a" * 16, "bob-" + "b" * 16


class Source:
    """What a browser's EventSource makes of a stream (the algorithm of the HTML standard), without its reconnecting."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self.comments = 0
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        """The next event's message; `type` is the event's. Raises StopAsyncIteration at the stream's end."""
        while (message := await self._block()) is None:
            pass
        return message

    async def until_id(self, wanted: str) -> None:
        """Read blocks without an event until one has moved the id to `wanted`."""
        while self.last_id != wanted:
            assert await self._block() is None

    async def _block(self) -> dict[str, Any] | None:
        kind, data, seen = "message", [], self.last_id
        async for line in self._lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "" if line:
                    self.comments += 1
                case "event":
                    kind = value
                case "data":
                    data.append(value)
                case "id":
                    seen = value
                case "" if data:
                    self.last_id = seen
                    message: dict[str, Any] = json.loads("\n".join(data))
                    assert message["type"] == kind
                    return message
                case "":
                    self.last_id = seen
                    return None
        raise StopAsyncIteration

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[dict[str, Any]]:
        found = []
        while True:
            try:
                found.append(await self.next())
            except StopAsyncIteration:
                return found


@asynccontextmanager
async def events(edge: RunningEdge, hand: Hand, last_id: str | None = None, **query: str) -> AsyncIterator[Source]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with edge.http.stream("GET", f"/v1/transactions/{hand.tx}/events", params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        yield Source(response)


# ---- events


async def test_from_the_start_live_and_to_the_end(edge: RunningEdge, hand: Hand) -> None:
    await hand.update("one", b"\xff")
    async with events(edge, hand) as source:
        attached, *first = await source.take(3)
        assert (attached["type"], attached["cursor"], attached["last_mid"]) == ("attached", "0", 0)
        assert len(attached["session"]) >= 22
        assert [message["data"] for message in first] == ["one", {"$bytes": "/w=="}]
        done = await hand.update({"n": 1})
        assert (await source.next())["data"] == {"n": 1}
        assert source.last_id == str(done.head)
        await hand.finish("result")
        (end,) = await source.rest()
    assert (end["type"], end["status"], end["result"]) == ("end", "finished", "result")
    assert source.last_id == end["cursor"]


async def test_last_event_id_goes_before_after(edge: RunningEdge, hand: Hand) -> None:
    first, second = await hand.update(1), await hand.update(2)
    async with events(edge, hand, str(first.head), after=str(second.head)) as source:
        attached, update = await source.take(2)
        assert (attached["cursor"], update["data"]) == (str(first.head), 2)
    async with events(edge, hand, after=str(second.head)) as source:
        assert (await source.next())["cursor"] == str(second.head)
        await hand.update(3)
        assert (await source.next())["data"] == 3


async def test_204_once_the_end_was_seen(edge: RunningEdge, hand: Hand) -> None:
    await hand.update(1)
    await hand.finish()
    async with events(edge, hand) as source:
        assert [message["type"] for message in await source.rest()] == ["attached", "update", "end"]
    path = f"/v1/transactions/{hand.tx}/events"
    assert (await edge.http.get(path, headers={"Last-Event-ID": source.last_id})).status_code == 204
    assert (await edge.http.get(path, params={"after": source.last_id})).status_code == 204


async def test_resumed_on_another_edge_with_every_update_once(
    edge: RunningEdge, hand: Hand, redis_url: str, namespace: str
) -> None:
    seen: list[Any] = []
    async with events(edge, hand, session=ANN) as source:
        await source.next()
        for n in range(5):
            await hand.update(n)
            seen.append((await source.next())["data"])
    await hand.update(5, 6)
    other = await RunningEdge(redis_url, namespace).start()
    async with events(other, hand, source.last_id, session=ANN) as source:
        attached = await source.next()
        assert attached["session"] == ANN
        seen += [(await source.next())["data"] for _ in range(2)]
    assert seen == list(range(7))
    await other.close()


async def test_what_is_for_another_session_moves_the_id_alone(edge: RunningEdge, hand: Hand) -> None:
    async with events(edge, hand, session=ANN) as mine, events(edge, hand, session=BOB) as other:
        await mine.next()
        await other.next()
        await hand.update("for ann", session=ANN)
        await hand.refuse(ANN, 1, "state_error", "no")
        update, refused = await mine.take(2)
        assert (update["data"], refused["type"], refused["code"]) == ("for ann", "rejected", "state_error")
        assert refused["cursor"] == mine.last_id
        await other.until_id(mine.last_id)
        await hand.update("for all")
        assert (await other.next())["data"] == "for all"


async def test_a_reset_comes_right_after_attached(edge: RunningEdge, hand: Hand) -> None:
    await hand.update(1)
    elsewhere = Cursor(1, Epoch("9" * 19))
    async with events(edge, hand, str(elsewhere)) as source:
        attached = await source.next()
        assert source.last_id == str(elsewhere), "should the stream break now, the browser must ask for the reset again"
        reset, update = await source.take(2)
        assert source.last_id == update["cursor"]
    assert (reset["type"], reset["reason"], reset["view"]) == ("reset", "rewound", None)
    assert attached["cursor"] == reset["cursor"]
    assert update["data"] == 1


async def test_the_way_back_is_a_post_with_session_and_mid(edge: RunningEdge, hand: Hand) -> None:
    async with events(edge, hand, session=ANN) as source:
        await source.next()
        path, body = f"/v1/transactions/{hand.tx}/messages", {"data": "hello", "session": ANN, "mid": 1}
        assert (await edge.http.post(path, json=body)).json() == {"duplicate": False}
        assert (await edge.http.post(path, json=body)).json() == {"duplicate": True}
        refused = await edge.http.post(path, json=body | {"mid": 3})
        assert (refused.status_code, refused.json()["error"]["last_mid"]) == (409, 1)
    async with events(edge, hand, session=ANN) as source:
        assert (await source.next())["last_mid"] == 1


async def test_a_newer_attach_takes_its_place(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    async with events(edge, hand, session=ANN) as source:
        await source.next()
        assert (await link.expect("error"))["code"] == "replaced"
        await attach(link, hand, session=ANN)
        (error,) = await source.rest()
        assert (error["type"], error["code"]) == ("error", "replaced")


async def test_a_client_that_leaves_frees_its_place(edge: RunningEdge, hand: Hand) -> None:
    async with events(edge, hand, session=ANN) as source:
        await source.next()
        assert (await hand.store.sessions(hand.tx))[1] == 1
    while (await hand.store.sessions(hand.tx))[1]:
        pass
    assert await edge.counted("connections") == 0


async def test_a_quiet_stream_shows_that_it_lives(redis_url: str, namespace: str, store: Store, hand: Hand) -> None:
    edge = await RunningEdge(redis_url, namespace, {"pulse": replace(QUICK, heartbeat_s=0.01)}).start()
    async with events(edge, hand) as source:
        await source.next()
        waiting = asyncio.create_task(source.next())
        while source.comments < 3:
            await edge.http.get("/livez")
        await hand.update("at last")
        assert (await waiting)["data"] == "at last"
    await edge.close()


async def test_a_drain_ends_the_stream(redis_url: str, namespace: str, store: Store, hand: Hand) -> None:
    edge = await RunningEdge(redis_url, namespace, {"timing": Timing(drain_s=5)}).start()
    async with events(edge, hand, session=ANN) as source:
        await source.next()
        edge.stop.set()
        assert await source.rest() == []
    await edge.task
    assert (await store.sessions(hand.tx))[1] == 0
    await edge.close()


async def test_a_slow_reader_costs_little_and_misses_nothing(edge: RunningEdge, hand: Hand) -> None:
    """Nothing is read for a while; what waits in the edge stays small; then every update comes once."""
    async with events(edge, hand) as source:
        await source.next()
        for _ in range(40):
            await hand.update(*[pack(n).ljust(10_000, b"x") for n in range(20)])
        most = await edge.counted("waiting_bytes")
        assert most < 2 * 2**20
        seen = [await source.next() for _ in range(800)]
        assert len({message["cursor"] for message in seen}) == 800
        assert [int(message["cursor"].partition("-")[0]) for message in seen] == list(range(1, 801))


@pytest.mark.parametrize(
    ("path", "query", "headers", "status"),
    [
        ("events", {"after": "nonsense"}, {}, 400),
        ("events", {}, {"Last-Event-ID": "nonsense"}, 400),
        ("events", {"session": "short"}, {}, 400),
        ("updates", {"after": "1-x"}, {}, 400),
        ("updates", {"limit": "-1"}, {}, 400),
        ("updates", {"limit": "many"}, {}, 400),
        ("updates", {"session": "a b"}, {}, 400),
    ],
)
async def test_bad_questions(
    edge: RunningEdge, hand: Hand, path: str, query: dict[str, str], headers: dict[str, str], status: int
) -> None:
    answer = await edge.http.get(f"/v1/transactions/{hand.tx}/{path}", params=query, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "bad_request")
    assert (await hand.store.sessions(hand.tx))[1] == 0


@pytest.mark.parametrize("path", ["events", "updates"])
async def test_no_transaction(edge: RunningEdge, path: str) -> None:
    answer = await edge.http.get(f"/v1/transactions/nobody-{'0' * 16}/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_head_tells_no_events(edge: RunningEdge, hand: Hand) -> None:
    answer = await edge.http.head(f"/v1/transactions/{hand.tx}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await hand.store.sessions(hand.tx))[1] == 0


# ---- pages of updates


async def page(edge: RunningEdge, hand: Hand, **query: Any) -> dict[str, Any]:
    answer = await edge.http.get(f"/v1/transactions/{hand.tx}/updates", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_pages_follow_one_another(edge: RunningEdge, hand: Hand) -> None:
    await hand.update(*range(250))
    seen, cursor = [], "0"
    for size in (100, 100, 50, 0):
        found = await page(edge, hand, after=cursor)
        assert len(found["updates"]) == size
        seen += [one["data"] for one in found["updates"]]
        cursor = found["cursor"]
    assert seen == list(range(250))
    assert found["status"] == "running"
    assert len((await page(edge, hand, limit=7))["updates"]) == 7
    assert len((await page(edge, hand, limit=100_000))["updates"]) == 250
    assert (await page(edge, hand, after="$"))["updates"] == []


async def test_what_is_for_one_session_is_in_its_pages_alone(edge: RunningEdge, hand: Hand) -> None:
    await hand.update("all")
    await hand.update(*["secret"] * 5, session=ANN)
    await hand.refuse(ANN, 1)
    done = await hand.update("all again")
    theirs, mine = await page(edge, hand, limit=2), await page(edge, hand, session=ANN)
    assert [one["data"] for one in theirs["updates"]] == ["all", "all again"]
    assert [one["data"] for one in mine["updates"]] == ["all", *["secret"] * 5, "all again"]
    assert theirs["cursor"] == mine["cursor"] == str(done.head)


async def test_a_cursor_of_another_history_is_answered_with_a_reset(edge: RunningEdge, hand: Hand) -> None:
    done = await hand.update(1, 2)
    found = await page(edge, hand, after=f"1-{'9' * 19}")
    assert found["reset"] == {"cursor": "0", "reason": "rewound", "view": None}
    assert [one["data"] for one in found["updates"]] == [1, 2]
    await hand.finish()
    over = await page(edge, hand, after=str(done.head))
    assert (over["updates"], over["status"]) == ([], "finished")
    assert over["cursor"] != str(done.head)


async def test_a_websocket_client_and_a_page_see_the_same(edge: RunningEdge, hand: Hand) -> None:
    await hand.update({"$x": 1}, 2**62, b"")
    link = await edge.link()
    await attach(link, hand)
    told = [(await link.expect("update")) for _ in range(3)]
    assert [one["cursor"] for one in (await page(edge, hand))["updates"]] == [one["cursor"] for one in told]
    await link.close()
    assert await closed_with(link) == 1000
