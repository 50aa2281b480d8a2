"""The HTTP verbs of `Client`, against edges that answer what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from orbit.client import Client
from orbit.client.web import Web
from orbit.errors import (
    BadRequest,
    Conflict,
    Ended,
    Internal,
    NotFound,
    OutOfOrder,
    Overloaded,
    ProtocolError,
    RequestError,
    TooLarge,
    TransactionFailed,
    Unavailable,
)

TX = "tx-0123456789abcdef"
TRANSACTION = {
    "id": TX,
    "state": "S",
    "version": 1,
    "queue": "default",
    "status": "finished",
    "waiting_for": "whatever comes later",
    "created_at": "2026-01-02T03:04:05.678Z",
    "started_at": "2026-01-02T03:04:06+00:00",
    "ended_at": None,
    "cursor": "0",
    "commit": 3,
    "epoch": "1",
    "attempts": 0,
    "result": {"$bytes": "/w=="},
}
Answer = httpx.Response | Exception


class Edges:
    """Answers in turn, and what was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[httpx.Request] = []
        self.together: asyncio.Barrier | None = None

    def say(self, status: int, body: Any = None, **headers: str) -> None:
        self.answers.append(httpx.Response(status, json=body, headers=headers))

    def refuse(self, status: int, code: str, **more: Any) -> None:
        self.say(status, {"error": {"code": code, "message": "why", **more}})

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.together is not None:
            await self.together.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def body(self) -> Any:
        return json.loads(self.asked[-1].content)


@pytest.fixture
def edges() -> Edges:
    return Edges()


@pytest.fixture
async def client(edges: Edges) -> AsyncIterator[Client]:
    urls = ["http://one", "http://two/base/"]
    async with Client(urls, token="t", patience_s=5) as client:
        await client._web.close()
        transport = httpx.MockTransport(edges.handle)
        bases = ["http://one", "http://two/base"]
        client._web = Web(bases, headers=lambda: {"Authorization": "Bearer t"}, patience_s=5, transport=transport)
        yield client


async def test_a_start_is_keyed_so_that_it_may_be_repeated(client: Client, edges: Edges) -> None:
    edges.answers.append(httpx.ReadTimeout("late"))
    edges.say(201, TRANSACTION)
    assert await client.start("S", {"a": b"\xff", "b": {"$x": 1}}, delay_s=2.0) == TX
    first, second = edges.asked
    assert (first.method, str(first.url)) == ("POST", "http://one/v1/transactions")
    assert str(second.url) == "http://two/base/v1/transactions"
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.headers["Authorization"] == "Bearer t"
    assert edges.body == {"state": "S", "input": {"a": {"$bytes": "/w=="}, "b": {"$$x": 1}}, "delay_s": 2.0}


async def test_a_start_with_an_id_needs_no_key(client: Client, edges: Edges) -> None:
    edges.say(200, TRANSACTION)
    await client.start("S", id="x" * 16)
    assert edges.body == {"state": "S", "input": {}, "id": "x" * 16}
    assert "Idempotency-Key" not in edges.asked[0].headers


async def test_a_transaction_is_read(client: Client, edges: Edges) -> None:
    edges.say(200, TRANSACTION)
    info = await client.get("a/b")
    assert edges.asked[0].url.raw_path == b"/v1/transactions/a%2Fb"
    assert (info.id, info.result, info.over, info.ended_at) == (TX, b"\xff", True, None)
    assert info.created_at.isoformat() == "2026-01-02T03:04:05.678000+00:00"


async def test_lists_and_states(client: Client, edges: Edges) -> None:
    edges.say(200, {"transactions": [TRANSACTION], "next": "n"})
    page = await client.list(state="S", limit=1)
    assert (page.transactions[0].id, page.next) == (TX, "n")
    assert dict(edges.asked[0].url.params) == {"state": "S", "limit": "1"}
    edges.say(200, {"states": [{"name": "S", "version": 1, "queue": "q", "workers": 2, "schema": {"type": "object"}}]})
    [state] = await client.states()
    assert (state.name, state.workers, state.schema) == ("S", 2, {"type": "object"})


async def test_messages_and_cancels(client: Client, edges: Edges) -> None:
    edges.say(202, {"duplicate": False})
    await client.send(TX, b"\xff")
    assert edges.body == {"data": {"$bytes": "/w=="}}
    assert edges.asked[0].headers["Idempotency-Key"]
    edges.say(202, {"status": "running"})
    assert await client.cancel(TX, "because") == "running"
    assert edges.body == {"reason": "because"}
    with pytest.raises(BadRequest):
        await client.send(TX, float("nan"))


async def test_a_result_is_asked_for_until_it_is_there(client: Client, edges: Edges) -> None:
    edges.say(202, {"status": "running"})
    edges.say(200, {"status": "finished", "result": [1]})
    assert await client.result(TX) == [1]
    edges.say(202, {"status": "running"})
    with pytest.raises(TimeoutError):
        await client.result(TX, wait_s=0)
    edges.say(200, {"status": "failed", "error": {"type": "E", "message": "m"}})
    with pytest.raises(TransactionFailed, match="m") as raised:
        await client.result(TX)
    assert (raised.value.status, raised.value.type) == ("failed", "E")
    edges.say(200, {"status": "cancelled"})
    with pytest.raises(TransactionFailed, match="cancelled"):
        await client.result(TX)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "bad_request", BadRequest),
        (404, "not_found", NotFound),
        (409, "conflict", Conflict),
        (409, "ended", Ended),
        (413, "too_large", TooLarge),
        (500, "internal", Internal),
        (400, "news", Internal),
    ],
)
async def test_refusals_are_errors(
    client: Client, edges: Edges, status: int, code: str, error: type[RequestError]
) -> None:
    edges.refuse(status, code)
    with pytest.raises(error, match="why"):
        await client.get(TX)
    assert len(edges.asked) == 1


async def test_out_of_order_carries_last_mid(client: Client, edges: Edges) -> None:
    edges.refuse(409, "out_of_order", last_mid=4)
    with pytest.raises(OutOfOrder) as raised:
        await client.get(TX)
    assert raised.value.last_mid == 4


async def test_refusals_for_now_are_asked_again(client: Client, edges: Edges) -> None:
    edges.refuse(503, "unavailable", retry_after_ms=1)
    edges.refuse(429, "rate_limited", retry_after_ms=1)
    edges.say(200, TRANSACTION)
    await client.get(TX)
    assert [request.url.host for request in edges.asked] == ["one", "two", "two"]


async def test_a_refusal_that_lasts_longer_than_patience_is_told(client: Client, edges: Edges) -> None:
    edges.refuse(503, "overloaded", retry_after_ms=60_000)
    with pytest.raises(Overloaded) as raised:
        await client.get(TX)
    assert raised.value.retry_after_ms == 60_000


async def test_requests_that_fail_together_pass_a_dead_edge_by_once(client: Client, edges: Edges) -> None:
    edges.answers += [httpx.ConnectError("refused"), httpx.ConnectError("refused")]
    edges.say(200, TRANSACTION)
    edges.say(200, TRANSACTION)
    edges.together = asyncio.Barrier(2)
    await asyncio.gather(client.get(TX), client.get(TX))
    assert [request.url.host for request in edges.asked] == ["one", "one", "two", "two"]


async def test_no_edge_at_all_is_unavailable(client: Client, edges: Edges) -> None:
    client._web._patience_s = 0
    edges.answers.append(httpx.ConnectError("refused"))
    with pytest.raises(Unavailable, match="http://one: refused"):
        await client.get(TX)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(200, content=b"<html>"), ProtocolError),
        (httpx.Response(200, json={"id": TX}), ProtocolError),
        (httpx.Response(200, json=[]), ProtocolError),
        (httpx.Response(404, content=b"<html>"), NotFound),
        (httpx.Response(405, json=[]), BadRequest),
        (httpx.Response(403, json={"error": "no"}), RequestError),
    ],
)
async def test_answers_of_something_else_than_an_edge(
    client: Client, edges: Edges, answer: httpx.Response, error: type[Exception]
) -> None:
    edges.answers.append(answer)
    with pytest.raises(error):
        await client.get(TX)


async def test_answers_without_what_they_must_hold(client: Client, edges: Edges) -> None:
    for verb in (client.states, client.list, lambda: client.cancel(TX), lambda: client.result(TX)):
        edges.say(202, {"nothing": 1})
        with pytest.raises(ProtocolError):
            await verb()
