"""Every fault that a token can have, with every algorithm, at every door of an edge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.integration.edge_bench import Hand, RunningEdge
from tests.integration.tokens.bench import (
    ALGS,
    KEYS,
    STRANGERS,
    SWAPPED,
    bearer,
    by_http,
    knock,
    plain_url,
    refused_by,
    sign,
)


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
