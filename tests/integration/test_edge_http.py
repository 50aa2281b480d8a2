"""The HTTP side of an edge, from outside."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orbit.protocol.ids import Session
from orbit.protocol.values import unpack
from orbit.store import types as t
from orbit.store.store import Store
from tests.integration.edge_bench import SCHEMA, Hand, RunningEdge, attach, updates

ANN = "ann-" + "a" * 16
RECORD = t.StateRecord("Probe", 1, "default", SCHEMA, connection_hooks=False, keep_updates=100, retain_s=100.0)


@pytest.fixture
async def edge(redis_url: str, namespace: str, store: Store) -> AsyncIterator[RunningEdge]:
    await store.publish_states([RECORD])
    edge = await RunningEdge(redis_url, namespace).start()
    yield edge
    await edge.close()


def new_id() -> str:
    return secrets.token_urlsafe(16)


async def refused(response: Any, status: int, code: str) -> str:
    """The text of an error in the documented form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error["code"] == code
    assert "Traceback" not in response.text
    return str(error["message"])


# ---- start


async def test_start(edge: RunningEdge, store: Store) -> None:
    response = await edge.http.post("/v1/transactions", json={"state": "Probe", "input": {"n": 7}})
    assert response.status_code == 201
    shown = response.json()
    assert response.headers["location"] == f"/v1/transactions/{shown['id']}"
    assert (shown["state"], shown["version"], shown["queue"], shown["status"]) == ("Probe", 1, "default", "pending")
    assert (shown["cursor"], shown["commit"], shown["attempts"], shown["started_at"]) == ("0", 0, 0, None)
    assert shown["created_at"].endswith("Z")
    assert shown["waiting_for"] == "worker"
    [grant] = await store.claim(
        store.partition_of(shown["id"]), "hand", [t.Spec("default", "Probe", 1)], 1, 60_000, "request"
    )
    loaded = await store.load(grant.tx, grant.epoch)
    assert isinstance(loaded, t.Loaded)
    assert json.loads(loaded.snapshot.fields) == {"n": 7}


async def test_the_same_start_again_starts_nothing(edge: RunningEdge) -> None:
    body = {"state": "Probe", "input": {"n": 7}, "id": new_id()}
    first, again = [await edge.http.post("/v1/transactions", json=body) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"] == body["id"]
    await refused(await edge.http.post("/v1/transactions", json={**body, "input": {"n": 8}}), 409, "conflict")


async def test_an_idempotency_key(edge: RunningEdge) -> None:
    body, headers = {"state": "Probe", "input": {}}, {"Idempotency-Key": "order 7"}
    first, again = [await edge.http.post("/v1/transactions", json=body, headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = await edge.http.post("/v1/transactions", json={**body, "delay_s": 5}, headers=headers)
    await refused(other, 409, "conflict")
    another = await edge.http.post("/v1/transactions", json=body, headers={"Idempotency-Key": "order 8"})
    assert another.json()["id"] != first.json()["id"]


async def test_a_delayed_start(edge: RunningEdge, store: Store) -> None:
    response = await edge.http.post("/v1/transactions", json={"state": "Probe", "delay_s": 3600})
    assert response.status_code == 201
    tx = response.json()["id"]
    spec = t.Spec("default", "Probe", 1)
    assert await store.claim(store.partition_of(tx), "hand", [spec], 1, 60_000, "request") == ()


BAD_STARTS: dict[str, tuple[bytes | dict[str, Any], int, str, str]] = {
    "an unknown State": ({"state": "Prob"}, 400, "bad_request", "known: Probe"),
    "no State": ({"input": {}}, 400, "bad_request", "state is missing"),
    "a State that is none": ({"state": 7}, 400, "bad_request", "state must be text"),
    "a field of another type": ({"state": "Probe", "input": {"n": "seven"}}, 400, "bad_request", "n: "),
    "an unknown field": ({"state": "Probe", "input": {"m": 7}}, 400, "bad_request", "m"),
    "an input that is no object": ({"state": "Probe", "input": [1]}, 400, "bad_request", "input"),
    "a short id": ({"state": "Probe", "id": "x"}, 400, "bad_request", "id"),
    "an id that is none": ({"state": "Probe", "id": 7}, 400, "bad_request", "id"),
    "a negative delay": ({"state": "Probe", "delay_s": -1}, 400, "bad_request", "delay_s"),
    "a delay that is none": ({"state": "Probe", "delay_s": "soon"}, 400, "bad_request", "delay_s"),
    "a delay of a yes": ({"state": "Probe", "delay_s": True}, 400, "bad_request", "delay_s"),
    "no JSON": (b"no JSON", 400, "bad_request", "body"),
    "nothing": (b"", 400, "bad_request", "body"),
    "no object": (b"[]", 400, "bad_request", "body"),
    "not UTF-8": (b"\xff\xfe", 400, "bad_request", "body"),
    "NaN": (b'{"state":"Probe","input":{"n":NaN}}', 400, "bad_request", "NaN"),
    "1e999": (b'{"state":"Probe","delay_s":1e999}', 400, "bad_request", "infinity"),
    "5,000 digits": (b'{"state":"Probe","input":{"n":' + b"9" * 5000 + b"}}", 400, "bad_request", "64 bits"),
    "a lone surrogate": (b'{"state":"Probe","input":{"n":"\\ud800"}}', 400, "bad_request", "surrogate"),
    "100,000 brackets": (b"[" * 100_000, 400, "bad_request", "body"),
    "nested too deep": (b'{"state":"Probe","input":' + b'{"a":' * 200 + b"1" + b"}" * 201, 400, "bad_request", "deep"),
    "bytes that are none": (b'{"state":"Probe","input":{"n":{"$bytes":"?"}}}', 400, "bad_request", "base64"),
    "over the limit": (b" " * (2 * 1024 * 1024 + 1), 413, "too_large", "2097152"),
}


@pytest.mark.parametrize(("body", "status", "code", "said"), BAD_STARTS.values(), ids=BAD_STARTS.keys())
async def test_a_bad_start(
    edge: RunningEdge, body: bytes | dict[str, Any], status: int, code: str, said: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await edge.http.post("/v1/transactions", content=content)
    assert said in await refused(response, status, code)


async def test_a_body_over_the_limit_that_does_not_say_so(edge: RunningEdge) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    await refused(await edge.http.post("/v1/transactions", content=chunks()), 413, "too_large")


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_bad_idempotency_key(edge: RunningEdge, key: str) -> None:
    response = await edge.http.post("/v1/transactions", json={"state": "Probe"}, headers={"Idempotency-Key": key})
    await refused(response, 400, "bad_request")


async def test_a_page_of_another_origin_may_write_nothing(edge: RunningEdge, hand: Hand) -> None:
    for path in ("/v1/transactions", f"/v1/transactions/{hand.tx}/cancel", f"/v1/transactions/{hand.tx}/messages"):
        response = await edge.http.post(path, content=b"{}", headers={"Origin": "http://evil.test"})
        await refused(response, 403, "forbidden")
    ours = await edge.http.post("/v1/transactions", json={"state": "Probe"}, headers={"Origin": edge.url})
    assert ours.status_code == 201


# ---- look


async def test_show(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    done = await hand.update(1)
    shown = (await edge.http.get(f"/v1/transactions/{hand.tx}")).json()
    assert (shown["status"], shown["cursor"], shown["commit"]) == ("running", str(done.head), 1)
    assert shown["epoch"] == done.head.epoch
    assert shown["sessions"] == [{"session": hand.public(ANN), "subject": None, "last_mid": 0}]
    assert shown["sessions_total"] == 1
    assert "result" not in shown
    assert ANN not in json.dumps(shown)


async def test_show_an_end(edge: RunningEdge, hand: Hand) -> None:
    await hand.finish({"raw": b"\x00", "$": {"$x": 1}})
    shown = (await edge.http.get(f"/v1/transactions/{hand.tx}")).json()
    assert shown["status"] == "finished"
    assert shown["result"] == {"raw": {"$bytes": "AA=="}, "$": {"$$x": 1}}
    assert shown["ended_at"] >= shown["started_at"] >= shown["created_at"]


@pytest.mark.parametrize("tx", ["x", "x" * 65, "no-such-transaction", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"])
@pytest.mark.parametrize("path", ["", "/result"])
async def test_an_unknown_transaction(edge: RunningEdge, tx: str, path: str) -> None:
    await refused(await edge.http.get(f"/v1/transactions/{tx}{path}"), 404, "not_found")


async def test_list(edge: RunningEdge, store: Store) -> None:
    ids = [(await edge.http.post("/v1/transactions", json={"state": "Probe"})).json()["id"] for _ in range(5)]
    other = await Hand.start(store)
    listed = (await edge.http.get("/v1/transactions", params={"state": "Probe"})).json()
    assert {one["id"] for one in listed["transactions"]} == set(ids)
    assert listed["next"] is None
    await edge.http.post(f"/v1/transactions/{ids[0]}/cancel")
    cancelled = (await edge.http.get("/v1/transactions", params={"status": "cancelled"})).json()
    assert [one["id"] for one in cancelled["transactions"]] == [ids[0]]
    assert other.tx in {one["id"] for one in (await edge.http.get("/v1/transactions")).json()["transactions"]}


async def test_list_in_pages(edge: RunningEdge) -> None:
    ids = {(await edge.http.post("/v1/transactions", json={"state": "Probe"})).json()["id"] for _ in range(12)}
    found: list[str] = []
    page: str | None = None
    while True:
        asked = {"limit": "5", **({} if page is None else {"page": page})}
        listed = (await edge.http.get("/v1/transactions", params=asked)).json()
        found += [one["id"] for one in listed["transactions"]]
        page = listed["next"]
        if page is None:
            break
    assert len(found) == 12
    assert set(found) == ids


@pytest.mark.parametrize("query", ["limit=many", "limit=-1", "status=asleep", "page=nonsense", "limit=%00"])
async def test_a_bad_listing(edge: RunningEdge, query: str) -> None:
    await refused(await edge.http.get(f"/v1/transactions?{query}"), 400, "bad_request")


# ---- result


async def test_result_while_it_runs_and_after(edge: RunningEdge, hand: Hand) -> None:
    await hand.claim()
    response = await edge.http.get(f"/v1/transactions/{hand.tx}/result")
    assert (response.status_code, response.json()) == (202, {"status": "running"})
    await hand.finish([1, None])
    response = await edge.http.get(f"/v1/transactions/{hand.tx}/result")
    assert (response.status_code, response.json()) == (200, {"status": "finished", "result": [1, None]})


async def test_result_of_a_failure(edge: RunningEdge, hand: Hand) -> None:
    await hand.fail("ValueError", "it failed")
    response = await edge.http.get(f"/v1/transactions/{hand.tx}/result?wait_s=5")
    assert response.json() == {"status": "failed", "error": {"type": "ValueError", "message": "it failed"}}


async def test_result_wakes_the_one_who_waits(edge: RunningEdge, hand: Hand) -> None:
    await hand.claim()
    waiting = asyncio.create_task(edge.http.get(f"/v1/transactions/{hand.tx}/result?wait_s=20", timeout=25))
    while await edge.counted("watched") != 1:
        pass
    await hand.update("not yet")
    await hand.finish("done")
    response = await waiting
    assert (response.status_code, response.json()) == (200, {"status": "finished", "result": "done"})


async def test_result_after_waiting_in_vain(edge: RunningEdge, hand: Hand) -> None:
    response = await edge.http.get(f"/v1/transactions/{hand.tx}/result?wait_s=0.05")
    assert (response.status_code, response.json()) == (202, {"status": "pending"})


@pytest.mark.parametrize("wait_s", ["-1", "nan", "inf", "soon", "1" * 30])
async def test_a_bad_wait(edge: RunningEdge, hand: Hand, wait_s: str) -> None:
    response = await edge.http.get(f"/v1/transactions/{hand.tx}/result?wait_s={wait_s}")
    await refused(response, 400, "bad_request")


# ---- messages and cancel


async def test_a_message_without_a_session(edge: RunningEdge, hand: Hand) -> None:
    path = f"/v1/transactions/{hand.tx}/messages"
    response = await edge.http.post(path, json={"data": {"raw": {"$bytes": "AA=="}}})
    assert (response.status_code, response.json()) == (202, {"duplicate": False})
    [entry] = await hand.inbox()
    assert (unpack(entry.data), entry.session, entry.mid) == ({"raw": b"\x00"}, None, None)


async def test_a_message_with_a_key_is_stored_once(edge: RunningEdge, hand: Hand) -> None:
    path, headers = f"/v1/transactions/{hand.tx}/messages", {"Idempotency-Key": "k"}
    answers = [(await edge.http.post(path, json={"data": n}, headers=headers)).json() for n in range(2)]
    assert answers == [{"duplicate": False}, {"duplicate": True}]
    assert [unpack(entry.data) for entry in await hand.inbox()] == [0]


async def test_messages_of_a_session(edge: RunningEdge, hand: Hand) -> None:
    path = f"/v1/transactions/{hand.tx}/messages"

    async def post(mid: int) -> Any:
        return await edge.http.post(path, json={"data": mid, "session": ANN, "mid": mid})

    assert (await post(1)).json() == {"duplicate": False}
    assert (await post(1)).json() == {"duplicate": True}
    response = await post(3)
    await refused(response, 409, "out_of_order")
    assert response.json()["error"]["last_mid"] == 1
    assert (await post(2)).json() == {"duplicate": False}
    link = await edge.link()
    assert (await attach(link, hand, session=ANN))["last_mid"] == 2
    assert (await post(3)).json() == {"duplicate": False}
    await hand.refuse(ANN, 3)
    assert (await link.expect("rejected"))["mid"] == 3


async def test_what_a_message_may_not_be(edge: RunningEdge, hand: Hand) -> None:
    path = f"/v1/transactions/{hand.tx}/messages"
    for body in (
        {}, {"data": 1, "mid": 1}, {"data": 1, "session": ANN}, {"data": 1, "session": ANN, "mid": 0},
        {"data": 1, "session": "x", "mid": 1}, {"data": 1, "session": ANN, "mid": "1"},
        {"data": 1, "session": ANN, "mid": True},
    ):  # fmt: skip
        await refused(await edge.http.post(path, json=body), 400, "bad_request")
    await refused(await edge.http.post(path, json={"data": "x" * (1024 * 1024)}), 413, "too_large")
    assert await hand.inbox() == ()


async def test_a_message_to_what_is_over_or_unknown(edge: RunningEdge, hand: Hand) -> None:
    await hand.finish()
    await refused(await edge.http.post(f"/v1/transactions/{hand.tx}/messages", json={"data": 1}), 409, "ended")
    await refused(await edge.http.post(f"/v1/transactions/{new_id()}/messages", json={"data": 1}), 404, "not_found")


async def test_a_message_of_a_barred_session(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN)
    await hand.commit(barred=((hand.store.public_name(hand.tx, Session(ANN)), "not you"),))
    body = {"data": 1, "session": ANN, "mid": 1}
    response = await edge.http.post(f"/v1/transactions/{hand.tx}/messages", json=body)
    assert await refused(response, 403, "forbidden") == "not you"


async def test_a_full_inbox_says_when_to_come_back(redis_url: str, namespace: str, store: Store) -> None:
    from orbit.config import Limits

    edge = await RunningEdge(redis_url, namespace, {"limits": Limits(inbox_messages=1)}).start()
    try:
        hand = await Hand.start(store)
        path = f"/v1/transactions/{hand.tx}/messages"
        await edge.http.post(path, json={"data": 1})
        response = await edge.http.post(path, json={"data": 2})
        await refused(response, 503, "overloaded")
        assert response.headers["retry-after"] == "1"
    finally:
        await edge.close()


async def test_cancel(edge: RunningEdge, hand: Hand) -> None:
    await hand.claim()
    response = await edge.http.post(f"/v1/transactions/{hand.tx}/cancel", json={"reason": "enough"})
    assert (response.status_code, response.json()) == (202, {"status": "running"})
    assert (await hand.update(1)).cancel == "enough"
    await hand.finish()
    await refused(await edge.http.post(f"/v1/transactions/{hand.tx}/cancel"), 409, "ended")
    await refused(await edge.http.post(f"/v1/transactions/{new_id()}/cancel"), 404, "not_found")
    await refused(await edge.http.post(f"/v1/transactions/{new_id()}/cancel", content=b"?"), 400, "bad_request")


# ---- the rest


async def test_states(edge: RunningEdge, store: Store) -> None:
    await store.beat_worker(t.WorkerRecord("w", (t.Spec("default", "Probe", 1),), 10), 60)
    [state] = (await edge.http.get("/v1/states")).json()["states"]
    assert state == {
        "name": "Probe", "version": 1, "queue": "default", "workers": 1, "schema": json.loads(SCHEMA),
    }  # fmt: skip


async def test_a_schema_is_shown_as_it_is(edge: RunningEdge, store: Store) -> None:
    schema = {"properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "integer"}}}
    record = t.StateRecord("Other", 1, "default", json.dumps(schema), False, 100, 100.0)
    await store.publish_states([record])
    states = (await edge.http.get("/v1/states")).json()["states"]
    assert [state["schema"] for state in states if state["name"] == "Other"] == [schema]


async def test_info(edge: RunningEdge) -> None:
    info = (await edge.http.get("/v1/info")).json()
    assert (info["protocol"], info["codecs"]) == (1, ["json", "msgpack"])
    assert info["limits"]["data_bytes"] == 1024 * 1024
    assert info["limits"]["frame_bytes"] == 2 * 1024 * 1024
    assert info["limits"]["inbox_messages"] == info["limits"]["attaches"] == 1000


async def test_health(edge: RunningEdge) -> None:
    assert (await edge.http.get("/livez")).status_code == 200
    await edge.until_ready()


async def test_work_that_no_worker_can_run_shows(edge: RunningEdge, store: Store) -> None:
    await edge.http.post("/v1/transactions", json={"state": "Probe"})
    line = 'orbit_waiting_transactions{queue="default",runnable="false",state="Probe",version="1"} 1.0'
    assert line in (await edge.http.get("/metrics")).text


async def test_metrics(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand)
    await hand.update(1, 2)
    assert await updates(link, 2) == [1, 2]
    response = await edge.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert await edge.counted("connections ") == await edge.counted("attachments ") == 1
    assert await edge.counted("entries_relayed_total") == 2


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/transactions/", 404, "not_found"),
        ("GET", "/v2/transactions", 404, "not_found"),
        ("DELETE", "/v1/transactions", 405, "bad_request"),
        ("POST", "/livez", 405, "bad_request"),
        ("GET", "/v1/ws", 400, "bad_request"),
    ],
)
async def test_what_is_not_there(edge: RunningEdge, method: str, path: str, status: int, code: str) -> None:
    response = await edge.http.request(method, path)
    await refused(response, status, code)
    if status == 405:
        assert response.headers["allow"]


async def test_head_and_options(edge: RunningEdge, hand: Hand) -> None:
    response = await edge.http.head(f"/v1/transactions/{hand.tx}")
    assert (response.status_code, response.content) == (200, b"")
    response = await edge.http.options("/v1/transactions")
    assert response.status_code == 204
    assert {"GET", "POST"} <= {method.strip() for method in response.headers["allow"].split(",")}


async def test_a_defect_shows_no_traceback(
    edge: RunningEdge, hand: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("orbit.edge.http.answers.transaction", broken)
    response = await edge.http.get(f"/v1/transactions/{hand.tx}")
    assert "secret" not in await refused(response, 500, "internal")
    assert "the secret of the house" in caplog.text
    assert (await edge.http.get("/livez")).status_code == 200


