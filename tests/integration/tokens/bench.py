"""Tokens of every algorithm, good and bad, and what is asked with them."""

from __future__ import annotations

import json
import time
from typing import Any

from orbit.edge.access.keys import KeySet, new_key, read_keys
from orbit.store import types as t
from orbit.verify.link import Link
from tests.integration.edge_bench import SCHEMA, RunningEdge

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


async def knock(edge: RunningEdge, token: str | None) -> Link:
    return await edge.link(additional_headers=bearer(token))


def refused_by(status: int, challenge: str | None, body: bytes) -> str:
    """The code of an HTTP refusal, whose status and challenge are the right ones."""
    code = str(json.loads(body)["error"]["code"])
    assert (status, challenge) == {"unauthorized": (401, "Bearer"), "forbidden": (403, None)}[code]
    return code


async def by_http(edge: RunningEdge, tx: str, token: str | None) -> str | None:
    response = await edge.http.get(f"/v1/transactions/{tx}", headers=bearer(token))
    if response.status_code == 200:
        return None
    return refused_by(response.status_code, response.headers.get("www-authenticate"), response.content)


def plain_url(edge: RunningEdge, tx: str, token: str | None = None) -> str:
    query = "" if token is None else f"?token={token}"
    return edge.url.replace("http", "ws", 1) + f"/v1/transactions/{tx}/ws{query}"
