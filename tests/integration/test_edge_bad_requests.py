"""Every request, each with everything that can be wrong with it: the documented code, no traceback, nothing stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from orbit.store import types as t
from orbit.store.store import Store
from tests.integration.edge_bench import SCHEMA, Hand, RunningEdge

RECORD = t.StateRecord("Probe", 1, "default", SCHEMA, connection_hooks=False, keep_updates=100, retain_s=100.0)
SESSION = "s" * 22
ONE = "/v1/transactions/{tx}"
NOBODY = "nobody-0123456789"


@pytest.fixture
async def edge(redis_url: str, namespace: str, store: Store) -> AsyncIterator[RunningEdge]:
    await store.publish_states([RECORD])
    edge = await RunningEdge(redis_url, namespace).start()
    yield edge
    await edge.close()


@dataclass(frozen=True)
class Wrong:
    """A request and the answer that it must get."""

    method: str
    path: str
    status: int
    code: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


POSTS = ("/v1/transactions", f"{ONE}/messages", f"{ONE}/cancel", f"{ONE}/retry")
BODY_NEEDED = POSTS[:2]
NO_OBJECT: dict[str, bytes] = {
    "no JSON": b"state=Probe",
    "half of it": b'{"state": "Probe", "data":',
    "a list": b"[]",
    "a text": b'"text"',
    "null": b"null",
    "not UTF-8": b"\xff{}",
    "NaN": b'{"state": "Probe", "data": NaN, "reason": NaN}',
    "1e999": b'{"state": "Probe", "data": 1e999}',
    "5,000 digits": b'{"state": "Probe", "data": ' + b"9" * 5000 + b"}",
    "a lone surrogate": b'{"state": "Probe", "data": "\\ud800"}',
    "100,000 brackets": b"[" * 100_000,
    "bytes that are none": b'{"state": "Probe", "data": {"$bytes": "?"}}',
}
WRONG_TYPES: dict[str, tuple[str, object]] = {
    "state: a number": (POSTS[0], {"state": 7}),
    "input: a list": (POSTS[0], {"state": "Probe", "input": []}),
    "id: a number": (POSTS[0], {"state": "Probe", "id": 7}),
    "id: too short": (POSTS[0], {"state": "Probe", "id": "short"}),
    "id: other characters": (POSTS[0], {"state": "Probe", "id": "ä" * 20}),
    "delay_s: a text": (POSTS[0], {"state": "Probe", "delay_s": "1"}),
    "delay_s: below 0": (POSTS[0], {"state": "Probe", "delay_s": -0.001}),
    "delay_s: a thousand years": (POSTS[0], {"state": "Probe", "delay_s": 3.2e10}),
    "data: missing": (POSTS[1], {}),
    "session: a number": (POSTS[1], {"data": 1, "session": 7, "mid": 1}),
    "session: too short": (POSTS[1], {"data": 1, "session": "short", "mid": 1}),
    "session without mid": (POSTS[1], {"data": 1, "session": SESSION}),
    "mid without session": (POSTS[1], {"data": 1, "mid": 1}),
    "mid: 0": (POSTS[1], {"data": 1, "session": SESSION, "mid": 0}),
    "mid: below 0": (POSTS[1], {"data": 1, "session": SESSION, "mid": -1}),
    "mid: a text": (POSTS[1], {"data": 1, "session": SESSION, "mid": "1"}),
    "mid: a yes": (POSTS[1], {"data": 1, "session": SESSION, "mid": True}),
    "mid: 65 bits": (POSTS[1], {"data": 1, "session": SESSION, "mid": 2**64}),
    "reason: a number": (POSTS[2], {"reason": 7}),
    "reason: too long": (POSTS[2], {"reason": "x" * 1001}),
}
BAD_QUERIES = {
    "": ("limit=many", "limit=-1", "status=asleep", "page=nonsense", "page=%00", "limit=1e3"),
    "/{tx}/updates": ("after=nonsense", "after=-1", "after=1-", "limit=x", "session=short", "after=%00"),
    "/{tx}/events": ("after=nonsense", "after=5", "session=short", "session=%0d%0aX"),
    "/{tx}/result": ("wait_s=-1", "wait_s=nan", "wait_s=inf", "wait_s=soon"),
}


def wrongs() -> dict[str, Wrong]:
    found: dict[str, Wrong] = {}
    for path in POSTS:
        for name, body in NO_OBJECT.items():
            found[f"{path}: {name}"] = Wrong("POST", path, 400, "bad_request", body)
        found[f"{path}: too large"] = Wrong("POST", path, 413, "too_large", b" " * (2 * 1024 * 1024 + 1))
        found[f"{path}: of another origin"] = Wrong(
            "POST", path, 403, "forbidden", b'{"state": "Probe", "data": 1}', {"Origin": "http://elsewhere.example"}
        )
        found[f"{path}: PUT"] = Wrong("PUT", path, 405, "bad_request", b"{}")
        found[f"{path}: DELETE"] = Wrong("DELETE", path, 405, "bad_request")
    for path in BODY_NEEDED:
        found[f"{path}: no body"] = Wrong("POST", path, 400, "bad_request")
    for path in (POSTS[0], POSTS[1], POSTS[3]):
        for name, key in {"empty": "", "too long": "x" * 256}.items():
            headers = {"Idempotency-Key": key}
            body = b'{"state": "Probe", "data": 1}'
            found[f"{path}: a key that is {name}"] = Wrong("POST", path, 400, "bad_request", body, headers)
    for name, (path, said) in WRONG_TYPES.items():
        found[f"{path}: {name}"] = Wrong("POST", path, 400, "bad_request", json.dumps(said).encode())
    for path, queries in BAD_QUERIES.items():
        for query in queries:
            found[f"{path}?{query}"] = Wrong("GET", f"/v1/transactions{path}?{query}", 400, "bad_request")
    for last_id in ("nonsense", "1-", "-"):
        headers = {"Last-Event-ID": last_id}
        found[f"events from {last_id}"] = Wrong("GET", f"{ONE}/events", 400, "bad_request", None, headers)
    for bad in (NOBODY, "short", "x" * 65, "%2e%2e%2f%2e%2e%2fetc", "%00" * 20, "ä" * 20):
        for suffix in ("", "/updates", "/events", "/result"):
            found[f"{bad}{suffix}"] = Wrong("GET", f"/v1/transactions/{bad}{suffix}", 404, "not_found")
        for suffix in ("messages", "cancel", "retry"):
            path = f"/v1/transactions/{bad}/{suffix}"
            found[path] = Wrong("POST", path, 404, "not_found", b'{"data": 1}')
    found["no path"] = Wrong("GET", "/v1/nothing", 404, "not_found")
    found["a slash too many"] = Wrong("GET", "/v1/transactions/", 404, "not_found")
    return found


WRONGS = wrongs()


async def test_each_is_refused_as_documented_and_stores_nothing(edge: RunningEdge, store: Store, hand: Hand) -> None:
    """One edge for all of them, which still serves afterwards."""
    await hand.update("before")
    before = await store.get(hand.tx)
    faults = []
    for name, wrong in WRONGS.items():
        answer = await edge.http.request(
            wrong.method, wrong.path.format(tx=hand.tx), content=wrong.body, headers=wrong.headers
        )
        kind = answer.headers.get("content-type")
        said = answer.json()["error"] if kind == "application/json" else {}
        if (answer.status_code, said.get("code")) != (wrong.status, wrong.code) or "Traceback" in answer.text:
            faults.append(f"{name}: {answer.status_code} {answer.text[:200]}")
        if not said.get("message"):
            faults.append(f"{name}: says nothing")
        if answer.status_code == 405 and not answer.headers.get("allow"):
            faults.append(f"{name}: doesn't say what is allowed")
    assert not faults, "\n".join(faults)
    assert len(WRONGS) > 150
    assert [one.tx for one in (await store.list()).transactions] == [hand.tx]
    assert await store.get(hand.tx) == before
    assert await hand.inbox() == ()
    assert not await edge.counted("defects_total")
    assert (await edge.http.get(f"/v1/transactions/{hand.tx}/updates")).json()["updates"][0]["data"] == "before"


async def test_unknown_fields_are_ignored(edge: RunningEdge, hand: Hand) -> None:
    more = {"unknown": {"field": 1}}
    started = await edge.http.post("/v1/transactions", json={"state": "Probe", "input": {"n": 1}} | more)
    assert started.status_code == 201
    sent = await edge.http.post(f"/v1/transactions/{hand.tx}/messages", json={"data": 1} | more)
    assert sent.status_code == 202
    assert (await edge.http.post(f"/v1/transactions/{hand.tx}/cancel", json=more)).status_code == 202
    assert (await edge.http.get(f"/v1/transactions/{hand.tx}?unknown=1")).status_code == 200
