"""Tokens at the doors of an edge: who is let in, for how long, and what each may do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orbit.client import Client
from orbit.edge import EdgeConfig, run_edge
from orbit.edge.access import Rights
from orbit.edge.access.keys import KeySet, KeysUnusable, new_key, read_keys
from orbit.edge.http.entrance import check_session
from orbit.errors import Forbidden, Unauthorized
from orbit.protocol.messages import Update
from orbit.protocol.values import unpack
from orbit.store import types as t
from orbit.store.store import Store
from orbit.verify.link import Link
from tests.integration.edge_bench import SCHEMA, Hand, RunningEdge, attach, take, updates

pytestmark = pytest.mark.timeout(60)

RECORD = t.StateRecord("Probe", 1, "default", SCHEMA, connection_hooks=False, keep_updates=100, retain_s=100.0)
ALGS = ("EdDSA", "ES256", "HS256")
KEYS = {alg: new_key(alg) for alg in ALGS}


def signers(keys: dict[str, dict[str, Any]]) -> dict[str, KeySet]:
    return {alg: read_keys(json.dumps({"keys": [key]}).encode()) for alg, key in keys.items()}


SIGNERS = signers(KEYS)
STRANGERS = signers({alg: {**new_key(alg), "kid": KEYS[alg]["kid"]} for alg in ALGS})
NEXT = dict(zip(ALGS, (*ALGS[1:], ALGS[0]), strict=True))
SWAPPED = signers({alg: {**KEYS[alg], "kid": KEYS[NEXT[alg]]["kid"]} for alg in ALGS})
ANN = "ann-" + "a" * 16


def sign(
    tx: Any = "*",
    can: Any = "watch",
    *,
    alg: str = "EdDSA",
    ttl_s: float = 60.0,
    keys: dict[str, KeySet] = SIGNERS,
    **more: Any,
) -> str:
    verbs = can.split() if isinstance(can, str) else can
    claims = {"exp": time.time() + ttl_s, "sub": "ann", "aud": "here", "tx": tx, "can": verbs, **more}
    text = keys[alg].sign({name: value for name, value in claims.items() if value is not None})
    assert text is not None
    return text


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": list(KEYS.values())}))
    path.chmod(0o600)
    return path


@pytest.fixture
async def edge(redis_url: str, namespace: str, store: Store, keys: Path) -> AsyncIterator[RunningEdge]:
    await store.publish_states([RECORD])
    config = {"token_keys": str(keys), "audience": "here", "origins": ("https://app.test",)}
    edge = await RunningEdge(redis_url, namespace, config).start()
    yield edge
    await edge.close()


async def knock(edge: RunningEdge, token: str | None) -> Link:
    return await edge.link(additional_headers=bearer(token))


# ---- the doors: each answers with a code, or None where it served


def refused_by(status: int, challenge: str | None, body: bytes) -> str:
    """The code of an HTTP refusal, whose status and challenge are the right ones."""
    code = str(json.loads(body)["error"]["code"])
    assert (status, challenge) == {"unauthorized": (401, "Bearer"), "forbidden": (403, None)}[code]
    return code


async def by_attach(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    link = await edge.link()
    await link.send({"type": "attach", "tx": tx, **({} if token is None else {"token": token})})
    answer = await link.expect("attached", "error", tx=tx)
    return answer.get("code")


async def by_handshake(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    try:
        link = await knock(edge, token)
    except InvalidStatus as error:
        refused = error.response
        return refused_by(refused.status_code, refused.headers.get("WWW-Authenticate"), refused.body)
    await link.send({"type": "attach", "tx": tx})
    answer = await link.expect("attached", "error", tx=tx)
    return answer.get("code")


async def by_http(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    response = await edge.http.get(f"/v1/transactions/{tx}", headers=bearer(token))
    if response.status_code == 200:
        return None
    return refused_by(response.status_code, response.headers.get("www-authenticate"), response.content)


async def by_events(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    return await _events(edge, tx, headers=bearer(token))


async def by_query(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    return await _events(edge, tx, params={} if token is None else {"token": token})


async def _events(edge: RunningEdge, tx: str, **how: Any) -> str | None:
    async with edge.http.stream("GET", f"/v1/transactions/{tx}/events", **how) as response:
        if response.status_code == 200:
            return None
        body = await response.aread()
        return refused_by(response.status_code, response.headers.get("www-authenticate"), body)


def plain_url(edge: RunningEdge, tx: str, token: str | None = None) -> str:
    query = "" if token is None else f"?token={token}"
    return edge.url.replace("http", "ws", 1) + f"/v1/transactions/{tx}/ws{query}"


async def by_plain(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    return await _plain(plain_url(edge, tx), bearer(token))


async def by_plain_query(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    return await _plain(plain_url(edge, tx, token), {})


async def _plain(url: str, headers: dict[str, str]) -> str | None:
    try:
        async with connect(url, additional_headers=headers, proxy=None):
            return None
    except InvalidStatus as error:
        refused = error.response
        return refused_by(refused.status_code, refused.headers.get("WWW-Authenticate"), refused.body)


DOORS = {
    "attach": by_attach, "handshake": by_handshake, "http": by_http, "events": by_events, "events, query": by_query,
    "plain mode": by_plain, "plain mode, query": by_plain_query,
}  # fmt: skip


def forged(alg: str, name: str, secret: bytes) -> str:
    """A token put together by hand: `name` as its algorithm, signed with `secret` as HS256 does, if there is one."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    header = {"alg": name, "kid": KEYS[alg]["kid"]}
    claims = {"exp": time.time() + 60, "aud": "here", "tx": "*", "can": ["watch"]}
    head = part(json.dumps(header).encode()) + "." + part(json.dumps(claims).encode())
    return head + "." + (part(hmac.new(secret, head.encode(), hashlib.sha256).digest()) if secret else "")


def public_bytes(alg: str) -> bytes:
    """What an attacker may take for a shared secret."""
    if alg == "HS256":
        return b"x" * 32
    kind: Any = OKPAlgorithm if alg == "EdDSA" else ECAlgorithm
    key = kind.from_jwk(KEYS[alg]).public_key()
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


FAULTS: dict[str, tuple[Callable[[str, str], str | None], str | None]] = {
    "no token": (lambda alg, tx: None, "unauthorized"),
    "rubbish": (lambda alg, tx: "rubbish", "unauthorized"),
    "none": (lambda alg, tx: forged(alg, "none", b""), "unauthorized"),
    "another algorithm": (lambda alg, tx: forged(alg, "HS512", b"x" * 32), "unauthorized"),
    "a public key as secret": (lambda alg, tx: forged(alg, "HS256", public_bytes(alg)), "unauthorized"),
    "another key": (lambda alg, tx: sign(tx, alg=alg, keys=STRANGERS), "unauthorized"),
    "the kid of another": (lambda alg, tx: sign(tx, alg=alg, keys=SWAPPED), "unauthorized"),
    "expired": (lambda alg, tx: sign(tx, alg=alg, ttl_s=-1), "unauthorized"),
    "not yet valid": (lambda alg, tx: sign(tx, alg=alg, nbf=time.time() + 60), "unauthorized"),
    "another audience": (lambda alg, tx: sign(tx, alg=alg, aud="there"), "unauthorized"),
    "no audience": (lambda alg, tx: sign(tx, alg=alg, aud=None), "unauthorized"),
    "malformed tx": (lambda alg, tx: sign({"id": tx}, alg=alg), "unauthorized"),
    "malformed can": (lambda alg, tx: sign(tx, {"watch": True}, alg=alg), "unauthorized"),
    "another transaction": (lambda alg, tx: sign("o" * 16, alg=alg), "forbidden"),
    "another right": (lambda alg, tx: sign(tx, "send start list cancel", alg=alg), "forbidden"),
    "good": (lambda alg, tx: sign(tx, alg=alg), None),
    "good, in a list": (lambda alg, tx: sign([tx, "o" * 16], alg=alg), None),
    "good, for all": (lambda alg, tx: sign("*", alg=alg), None),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("alg", ALGS)
async def test_every_fault_at_every_door(edge: RunningEdge, hand: Hand, door: str, alg: str) -> None:
    for fault, (make, code) in FAULTS.items():
        assert await DOORS[door](edge, hand.tx, make(alg, hand.tx)) == code, fault


# ---- WebSocket


async def test_what_each_verb_needs(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, token=sign(hand.tx, "watch"))
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "no"})
    refused = await link.expect("rejected", tx=hand.tx)
    assert (refused["code"], refused["mid"]) == ("forbidden", 1)
    await link.send({"type": "cancel", "tx": hand.tx})
    assert (await link.expect("error", tx=hand.tx))["code"] == "forbidden"
    assert not await hand.inbox()
    await attach(link, hand, token=sign(hand.tx, "watch send cancel"))
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "yes"})
    await link.expect("receipt", tx=hand.tx)
    assert [entry.subject for entry in await hand.inbox()] == ["ann"]
    await link.send({"type": "cancel", "tx": hand.tx})
    await link.expect("cancelled", tx=hand.tx)


async def test_cancel_without_an_attach_needs_the_handshakes_token(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await link.send({"type": "cancel", "tx": hand.tx})
    assert (await link.expect("error", tx=hand.tx))["code"] == "unauthorized"
    link = await knock(edge, sign(hand.tx, "cancel"))
    await link.send({"type": "cancel", "tx": hand.tx})
    await link.expect("cancelled", tx=hand.tx)


async def test_an_attach_without_the_right_ends_the_one_before(edge: RunningEdge, hand: Hand) -> None:
    link = await knock(edge, sign(hand.tx, "watch send"))
    await attach(link, hand)
    assert (await attach(link, hand, token="rubbish"))["code"] == "unauthorized"
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": 1})
    assert (await link.expect("rejected"))["code"] == "bad_request"


async def test_a_session_belongs_to_its_first_subject(edge: RunningEdge, hand: Hand) -> None:
    ann, bob, nobody = [await knock(edge, sign(hand.tx, "watch send", sub=sub)) for sub in ("ann", "bob", None)]
    assert (await attach(ann, hand, session=ANN))["type"] == "attached"
    assert (await attach(bob, hand, session=ANN))["code"] == "forbidden"
    assert (await attach(nobody, hand, session=ANN))["code"] == "forbidden"
    for sub, status in (("bob", 403), (None, 403), ("ann", 202)):
        body = {"data": 1, "session": ANN, "mid": 1}
        answer = await edge.http.post(
            f"/v1/transactions/{hand.tx}/messages", json=body, headers=bearer(sign(hand.tx, "send", sub=sub))
        )
        assert answer.status_code == status, answer.text
    for sub, status in (("bob", 403), (None, 403), ("ann", 200)):
        page = await edge.http.get(
            f"/v1/transactions/{hand.tx}/updates", params={"session": ANN}, headers=bearer(sign(hand.tx, sub=sub))
        )
        assert page.status_code == status, (sub, page.text)
    rows, _ = await hand.store.sessions(hand.tx)
    assert {row.session: row.subject for row in rows} == {hand.public(ANN): "ann"}


async def test_an_expiry_and_a_refresh_without_a_gap(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    seen: list[Any] = []
    await hand.update(0, 1)
    attached = await attach(link, hand, session=ANN, token=sign(hand.tx, "watch send", ttl_s=3.0))
    assert attached["type"] == "attached"
    entries = await take(link, 2)
    seen += [entry["data"] for entry in entries]
    await link.send({"type": "send", "tx": hand.tx, "mid": 1, "data": "first"})
    await link.expect("receipt")
    expired = await link.expect("error", tx=hand.tx)
    assert expired["code"] == "unauthorized"
    assert "op" not in expired
    await hand.update(2, 3)
    again = await attach(
        link, hand, session=ANN, after=entries[-1]["cursor"], token=sign(hand.tx, "watch send", alg="HS256")
    )
    assert (again["type"], again["last_mid"]) == ("attached", 1)
    seen += await updates(link, 2)
    await hand.update(4)
    seen += await updates(link, 1)
    assert seen == [0, 1, 2, 3, 4]
    await link.send({"type": "send", "tx": hand.tx, "mid": 2, "data": "second"})
    assert not (await link.expect("receipt"))["duplicate"]


async def test_an_expiry_ends_a_stream_of_events_and_a_fresh_token_goes_on(edge: RunningEdge, hand: Hand) -> None:
    path = f"/v1/transactions/{hand.tx}/events"
    headers = bearer(sign(hand.tx, ttl_s=1.5))
    async with edge.http.stream("GET", path, headers=headers) as response:
        lines = response.aiter_lines()
        await hand.update(1)
        told = [line async for line in lines]
    seen = [line.partition(": ")[2] for line in told if line.startswith("id: ")]
    assert json.loads(told[-2].removeprefix("data: "))["code"] == "unauthorized"
    await hand.update(2)
    await hand.finish()
    again = bearer(sign(hand.tx)) | {"Last-Event-ID": seen[-1]}
    answer = await edge.http.get(path, headers=again)
    messages = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [message.get("data") for message in messages if message["type"] == "update"] == [2]


async def test_an_expiry_closes_plain_mode_with_4401(edge: RunningEdge, hand: Hand) -> None:
    async with connect(plain_url(edge, hand.tx, sign(hand.tx, "watch send", ttl_s=2.0)), proxy=None) as ws:
        await hand.update("one")
        assert await ws.recv() == "one"
        await ws.send("in time")
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (4401, "unauthorized: the token has expired")
    assert [unpack(entry.data) for entry in await hand.inbox()] == ["in time"]


async def test_a_message_in_plain_mode_without_the_right_closes_with_4403(edge: RunningEdge, hand: Hand) -> None:
    async with connect(plain_url(edge, hand.tx, sign(hand.tx, "watch")), proxy=None) as ws:
        await ws.send("no")
        await ws.wait_closed()
        assert ws.close_code == 4403
    assert not await hand.inbox()


async def test_a_fresh_token_in_time_is_not_interrupted(edge: RunningEdge, hand: Hand) -> None:
    link = await edge.link()
    await attach(link, hand, session=ANN, token=sign(hand.tx, ttl_s=2.0))
    await attach(link, hand, session=ANN, token=sign(hand.tx))
    brief = await Hand.start(hand.store)
    await attach(link, brief, token=sign(brief.tx, ttl_s=2.5))
    assert (await link.expect("error"))["tx"] == brief.tx  # later than the first token's end
    await hand.update("still here")
    assert await updates(link, 1) == ["still here"]


async def test_an_expired_handshake_token_lets_nobody_attach(edge: RunningEdge, hand: Hand) -> None:
    link = await knock(edge, sign("*", ttl_s=2.0))
    await attach(link, hand)
    await link.expect("error", tx=hand.tx)
    assert (await attach(link, hand))["code"] == "unauthorized"


# ---- HTTP


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


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/info"])
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
        f"/v1/transactions/{hand.tx}/result", params={"wait_s": 60}, headers=bearer(sign(hand.tx, ttl_s=2.0))
    )
    assert answer.status_code == 202


# ---- origins


async def test_pages_of_allowed_origins(edge: RunningEdge, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = "https://app.test", "https://evil.test"
    link = await edge.link(origin=good)
    assert (await attach(link, hand, token=sign(hand.tx)))["type"] == "attached"
    with pytest.raises(InvalidStatus) as refused:
        await edge.link(origin=bad)
    assert refused.value.response.status_code == 403
    path, token = f"/v1/transactions/{hand.tx}", bearer(sign(hand.tx))
    for headers, status in ((token, 200), ({}, 401)):
        answer = await edge.http.get(path, headers={**headers, "Origin": good})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == good
        assert answer.headers["access-control-expose-headers"] == "Location, Retry-After"
        assert answer.headers["vary"] == "Origin"
    caplog.clear()
    for other in ("https://localhost", bad, "https://localhost"):
        answer = await edge.http.get(path, headers={**token, "Origin": other})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
    answer = await edge.http.post(f"{path}/cancel", headers={**bearer(sign(hand.tx, "cancel")), "Origin": bad})
    assert answer.status_code == 403
    assert bad in answer.json()["error"]["message"]
    [told] = [record for record in caplog.records if record.levelname == "WARNING"]  # that of the handshake was before
    assert "--origin https://localhost " in told.getMessage()


async def test_a_preflight(edge: RunningEdge) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = await edge.http.options("/v1/transactions", headers={**asked, "Origin": "https://app.test"})
    assert answer.status_code == 204
    assert set(answer.headers["access-control-allow-methods"].split(", ")) >= {"GET", "POST"}
    assert answer.headers["access-control-allow-headers"] == (
        "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
    )
    answer = await edge.http.options("/v1/transactions", headers={**asked, "Origin": "https://evil.test"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# ---- the process, and the client


async def test_an_edge_with_keys_listens_anywhere(redis_url: str, namespace: str, store: Store, keys: Path) -> None:
    edge = await RunningEdge(redis_url, namespace, {"host": "0.0.0.0", "token_keys": str(keys)}).start()
    try:
        assert (await edge.http.get("/readyz")).status_code == 200
    finally:
        await edge.close()


async def test_a_bad_key_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="No such file"):
        await run_edge(EdgeConfig("redis://127.0.0.1:1/0", port=0, token_keys=str(tmp_path / "none.json")))


async def test_rotated_keys_are_taken_up(edge: RunningEdge, hand: Hand, keys: Path) -> None:
    fresh = new_key("ES256")
    new = keys.with_suffix(".new")
    new.write_text(json.dumps({"keys": [KEYS["EdDSA"], fresh]}))
    new.rename(keys)
    claims = {"exp": time.time() + 60, "aud": "here", "tx": hand.tx, "can": ["watch"]}
    token = read_keys(json.dumps({"keys": [fresh]}).encode()).sign(claims)
    async with asyncio.timeout(10):
        while await by_http(edge, hand.tx, token) is not None:
            pass
    assert await by_http(edge, hand.tx, sign(hand.tx, alg="HS256")) == "unauthorized"
    assert await by_http(edge, hand.tx, sign(hand.tx)) is None


async def test_the_python_client(edge: RunningEdge, hand: Hand) -> None:
    async with Client(edge.url, token=sign("*", "start watch send list cancel")) as client:
        await hand.update("hello")
        async with await client.attach(hand.tx) as attachment:
            await attachment.send("there")
            assert [entry.subject for entry in await hand.inbox()] == ["ann"]
        assert (await client.get(hand.tx)).id == hand.tx
        tx = await client.start("Probe", {})
        await client.cancel(tx)
    async with Client(edge.url, token=sign("o" * 16)) as client:
        with pytest.raises(Forbidden):
            await client.get(hand.tx)
        with pytest.raises(Forbidden):
            await client.attach(hand.tx)
    async with Client(edge.url) as client:
        with pytest.raises(Unauthorized):
            await client.get(hand.tx)
        async with await client.attach(hand.tx, token=sign(hand.tx)) as attachment:
            assert attachment.tx == hand.tx




async def test_a_client_that_is_asked_for_fresh_tokens_goes_on(edge: RunningEdge, hand: Hand) -> None:
    asked: list[str] = []
    fourth = asyncio.Event()

    def fresh() -> str:
        asked.append(sign(hand.tx, "watch send", ttl_s=1.0))
        if len(asked) == 4:
            fourth.set()
        return asked[-1]

    async with Client(edge.url, token=fresh) as client:
        attachment = await client.attach(hand.tx)
        for n in range(20):
            await hand.update(n)
            if n == 10:
                async with asyncio.timeout(30):
                    await fourth.wait()
            await attachment.send(n)
        assert [unpack(entry.data) for entry in await hand.inbox()] == list(range(20))
        await hand.finish()
        seen = [event.data async for event in attachment if isinstance(event, Update)]
    assert seen == list(range(20))


async def test_a_client_with_a_token_that_ends_is_told(edge: RunningEdge, hand: Hand) -> None:
    async with Client(edge.url, token=sign(hand.tx, ttl_s=2.0)) as client:
        attachment = await client.attach(hand.tx)
        with pytest.raises(Unauthorized):
            async for _ in attachment:
                pass


async def test_no_token_is_logged(edge: RunningEdge, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = sign(hand.tx)
    link = await knock(edge, token)
    await attach(link, hand, token=token)
    await edge.http.get(f"/v1/transactions/{hand.tx}?token={token}")
    told = [record.getMessage() for record in caplog.records if record.name.startswith("orbit")]
    assert not [text for text in told if token in text]
    assert not logging.getLogger("uvicorn.access").propagate  # nobody hears it but pytest


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
