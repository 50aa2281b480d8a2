"""The right that each request needs, and what keys, ids and sessions mean to others."""

from __future__ import annotations

import secrets
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from orbit.edge.access import Rights
from orbit.edge.http.entrance import check_session
from orbit.errors import Forbidden
from orbit.store import types as t
from orbit.store.store import Store
from tests.integration.edge_bench import Hand, RunningEdge, attach
from tests.integration.tokens.bench import (
    ANN,
    bearer,
    sign,
)

REQUESTS: list[tuple[str, str, dict[str, Any] | None, str, int]] = [
    ("POST", "/v1/transactions", {"state": "Probe", "input": {}}, "start", 201),
    ("GET", "/v1/transactions", None, "list", 200),
    ("GET", "/v1/states", None, "list", 200),
    ("GET", "/v1/states", None, "start", 200),
    ("GET", "/v1/transactions/{tx}", None, "watch", 200),
    ("HEAD", "/v1/transactions/{tx}", None, "watch", 200),
    ("GET", "/v1/transactions/{tx}/result", None, "watch", 202),
    ("POST", "/v1/transactions/{tx}/messages", {"data": 1}, "send", 202),
    ("POST", "/v1/transactions/{tx}/cancel", {}, "cancel", 202),
]


@pytest.mark.parametrize(("method", "path", "body", "verb", "status"), REQUESTS)
async def test_the_right_of_each_request(
    edge: RunningEdge, hand: Hand, method: str, path: str, body: Any, verb: str, status: int
) -> None:
    async def ask(token: str | None) -> int:
        request = edge.http.request(method, path.replace("{tx}", hand.tx), json=body, headers=bearer(token))
        return (await request).status_code

    others = {"watch", "send", "start", "cancel", "list"} - {verb}
    if path == "/v1/states":
        others -= {"start", "list"}
    assert await ask(None) == 401
    assert await ask(sign(hand.tx, verb, ttl_s=-1)) == 401
    assert await ask(sign(hand.tx, " ".join(sorted(others)))) == 403
    if "{tx}" in path:
        assert await ask(sign("o" * 16, verb)) == 403
    assert await ask(sign(hand.tx, verb)) == status


async def test_readiness_needs_no_token(edge: RunningEdge) -> None:
    await edge.until_ready()
    await edge.until_ready(headers=bearer("rubbish"))


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/v1/info"])
async def test_what_needs_no_token(edge: RunningEdge, path: str) -> None:
    assert (await edge.http.get(path)).status_code == 200
    assert (await edge.http.get(path, headers=bearer("rubbish"))).status_code == 200


async def test_a_query_token_is_taken_on_no_other_path(edge: RunningEdge, hand: Hand) -> None:
    path = f"/v1/transactions/{hand.tx}"
    assert (await edge.http.get(path, params={"token": sign(hand.tx)})).status_code == 401


async def test_a_start_answers_with_a_token_for_it(edge: RunningEdge) -> None:
    exp = int(time.time()) + 50
    headers = bearer(sign([], "start", exp=exp))
    answer = (await edge.http.post("/v1/transactions", json={"state": "Probe", "input": {}}, headers=headers)).json()
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims == {"exp": exp, "sub": "ann", "aud": "here", "tx": answer["id"], "can": ["watch", "send", "cancel"]}
    path = f"/v1/transactions/{answer['id']}"
    assert (await edge.http.get(path, headers=headers)).status_code == 403
    mine = bearer(answer["token"])
    assert (await edge.http.get(path, headers=mine)).status_code == 200
    assert (await edge.http.post(f"{path}/messages", json={"data": 1}, headers=mine)).status_code == 202
    assert (await edge.http.post(f"{path}/cancel", headers=mine)).status_code == 202
    assert (await edge.http.get("/v1/transactions", headers=mine)).status_code == 403


async def test_keys_of_starts_are_scoped_by_subject(edge: RunningEdge) -> None:
    async def start(sub: str | None, n: int = 1) -> Any:
        headers = {**bearer(sign([], "start", sub=sub)), "Idempotency-Key": "order 7"}
        return await edge.http.post("/v1/transactions", json={"state": "Probe", "input": {"n": n}}, headers=headers)

    ann, again, bob, nobody = [await start(sub) for sub in ("ann", "ann", "bob", None)]
    assert [one.status_code for one in (ann, again, bob, nobody)] == [201, 200, 201, 201]
    assert ann.json()["id"] == again.json()["id"]
    assert "token" in again.json()
    assert len({one.json()["id"] for one in (ann, bob, nobody)}) == 3
    assert (await start("ann", 2)).status_code == 409


async def test_an_id_that_the_caller_may_not_watch_is_a_conflict(edge: RunningEdge) -> None:
    tx = secrets.token_urlsafe(16)
    body = {"state": "Probe", "input": {}, "id": tx}

    async def start(token: str) -> Any:
        return await edge.http.post("/v1/transactions", json=body, headers=bearer(token))

    assert (await start(sign([], "start"))).status_code == 201
    refused = await start(sign([], "start", sub="bob"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    watching = await start(sign(tx, "start watch", sub="bob"))
    assert watching.status_code == 200
    claims = jwt.decode(watching.json()["token"], options={"verify_signature": False})
    assert claims["can"] == ["watch"]  # no more than bob may anyway


async def test_a_list_shows_what_the_token_names(edge: RunningEdge, store: Store) -> None:
    hands = [await Hand.start(store) for _ in range(4)]
    names = [hand.tx for hand in hands[:3]]

    async def listed(tx: Any, **query: Any) -> Any:
        return (await edge.http.get("/v1/transactions", params=query, headers=bearer(sign(tx, "list")))).json()

    assert len((await listed("*"))["transactions"]) == 4
    first = await listed([*names, "o" * 16], limit=2)
    rest = await listed([*names, "o" * 16], limit=2, page=first["next"])
    assert {one["id"] for one in first["transactions"] + rest["transactions"]} == set(names)
    assert rest["next"] is None
    assert (await listed(names, status="finished"))["transactions"] == []
    assert (await listed([]))["transactions"] == []


async def test_a_messages_key_is_scoped_by_subject(edge: RunningEdge, hand: Hand) -> None:
    async def send(sub: str) -> bool:
        headers = {**bearer(sign(hand.tx, "send", sub=sub)), "Idempotency-Key": "k"}
        answer = await edge.http.post(f"/v1/transactions/{hand.tx}/messages", json={"data": 1}, headers=headers)
        return bool(answer.json()["duplicate"])

    assert [await send(sub) for sub in ("ann", "ann", "bob")] == [False, True, False]
    assert [entry.subject for entry in await hand.inbox()] == ["ann", "bob"]


async def test_a_wait_ends_with_the_token(edge: RunningEdge, hand: Hand) -> None:
    answer = await edge.http.get(
        f"/v1/transactions/{hand.tx}/result", params={"wait_s": 60}, headers=bearer(sign(hand.tx, ttl_s=5.0))
    )
    assert answer.status_code == 202


async def test_a_token_in_the_query_of_a_path_that_takes_none(edge: RunningEdge, hand: Hand) -> None:
    path, token = f"/v1/transactions/{hand.tx}", sign(hand.tx)
    answer = await edge.http.get(path, params={"token": token})
    assert answer.status_code == 401
    assert "in the Authorization header" in answer.json()["error"]["message"]
    assert (await edge.http.get(path, params={"token": "other"}, headers=bearer(token))).status_code == 200
    link = await edge.link()
    assert "in the attach" in (await attach(link, hand))["message"]


async def test_what_is_for_one_session_is_its_subjects(hand: Hand) -> None:
    public = hand.public(ANN)
    await hand.store.attach(hand.tx, public, t.Place("e", "1", "1"), "ann")

    async def check(sub: str | None, session: str) -> None:
        rights = Rights(sub, None, None, frozenset({"watch"}))
        request: Any = SimpleNamespace(state=SimpleNamespace(rights=rights))
        edge: Any = SimpleNamespace(store=hand.store)
        await check_session(edge, request, hand.tx, hand.public(session))

    await check("ann", ANN)
    await check("bob", "bob-" + "b" * 16)
    for other in ("bob", None):
        with pytest.raises(Forbidden):
            await check(other, ANN)
