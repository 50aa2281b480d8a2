"""An edge that has keys: where it listens, how they change, what it logs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest

from orbit.edge import EdgeConfig, run_edge
from orbit.edge.access.keys import KeysUnusable, new_key, read_keys
from orbit.store.store import Store
from tests.integration.edge_bench import Hand, RunningEdge, attach, updates
from tests.integration.tokens.bench import (
    KEYS,
    by_http,
    knock,
    sign,
)
from tests.support.waiting import PATIENCE_S


async def test_an_edge_with_keys_listens_anywhere(redis_url: str, namespace: str, store: Store, keys: Path) -> None:
    edge = await RunningEdge(redis_url, namespace, {"host": "0.0.0.0", "token_keys": str(keys)}).start()
    try:
        await edge.until_ready()
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
    async with asyncio.timeout(PATIENCE_S):
        while await by_http(edge, hand.tx, token) is not None:
            pass
    assert await by_http(edge, hand.tx, sign(hand.tx, alg="HS256")) == "unauthorized"
    assert await by_http(edge, hand.tx, sign(hand.tx)) is None


async def test_a_key_that_is_taken_out_takes_away_what_it_allowed(edge: RunningEdge, hand: Hand, keys: Path) -> None:
    """As at an expiry: a fresh token goes on from the client's cursor. What another key allowed goes on."""
    link, other = await knock(edge, sign(hand.tx)), await knock(edge, sign(hand.tx, alg="HS256"))
    for one in (link, other):
        assert (await attach(one, hand))["type"] == "attached"
    await hand.update("before")
    cursor = (await link.expect("update"))["cursor"]
    new = keys.with_suffix(".new")
    new.write_text(json.dumps({"keys": [KEYS["ES256"], KEYS["HS256"]]}))
    new.rename(keys)
    error = await link.expect("error", tx=hand.tx)
    assert (error["code"], error.get("op")) == ("unauthorized", None)
    refused = await attach(link, hand)
    assert (refused["type"], refused["code"]) == ("error", "unauthorized"), "nor does the handshake's token"
    await hand.update("after")
    assert await updates(other, 2) == ["before", "after"]
    assert (await attach(link, hand, after=cursor, token=sign(hand.tx, alg="ES256")))["type"] == "attached"
    assert await updates(link, 1) == ["after"]



async def test_no_token_is_logged(edge: RunningEdge, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = sign(hand.tx)
    link = await knock(edge, token)
    await attach(link, hand, token=token)
    await edge.http.get(f"/v1/transactions/{hand.tx}?token={token}")
    told = [record.getMessage() for record in caplog.records if record.name.startswith("orbit")]
    assert not [text for text in told if token in text]
    assert not logging.getLogger("uvicorn.access").propagate  # nobody hears it but pytest
