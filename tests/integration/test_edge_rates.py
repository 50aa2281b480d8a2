"""Rates and the sessions of a transaction, at the doors of an edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from orbit.config import Limits
from orbit.edge import EdgeConfig, run_edge
from orbit.edge.dialogue import BROKEN_RATES
from orbit.edge.rates import BURST_S, NoNetwork, RateSettings
from orbit.store import types as t
from orbit.store.store import Store
from orbit.verify.link import Link
from tests.integration.edge_bench import SCHEMA, Hand, RunningEdge, attach, closed_with

RATE_S = 0.01
RECORD = t.StateRecord("Probe", 1, "default", SCHEMA, connection_hooks=False, keep_updates=100, retain_s=100.0)


@pytest.fixture
async def edge(
    redis_url: str, namespace: str, store: Store, request: pytest.FixtureRequest
) -> AsyncIterator[RunningEdge]:
    await store.publish_states([RECORD])
    config: dict[str, Any] = {"trusted_proxies": ("127.0.0.0/8",), **request.param}
    edge = await RunningEdge(redis_url, namespace, config).start()
    yield edge
    await edge.close()


async def send(link: Link, tx: str, mid: int) -> dict[str, Any]:
    await link.send({"type": "send", "tx": tx, "mid": mid, "data": mid})
    return await link.expect("receipt", "rejected", tx=tx)


def by(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


@pytest.mark.parametrize("edge", [{"rates": RateSettings(connection_messages_s=RATE_S)}], indirect=True)
async def test_messages_of_one_connection(edge: RunningEdge, store: Store) -> None:
    hand = await Hand.start(store)
    link, other = await edge.link(), await edge.link()
    await attach(link, hand)
    assert (await send(link, hand.tx, 1))["type"] == "receipt"
    refused = await send(link, hand.tx, 2)
    assert (refused["type"], refused["code"]) == ("rejected", "rate_limited")
    assert 0 < refused["retry_after_ms"] <= 1000 / RATE_S
    assert "cursor" not in refused
    assert len(await hand.inbox()) == 1
    await attach(other, hand)
    assert (await send(other, hand.tx, 1))["type"] == "receipt"


@pytest.mark.parametrize("edge", [{"rates": RateSettings(connection_messages_s=RATE_S)}], indirect=True)
async def test_who_breaks_the_rate_again_and_again_is_let_go(edge: RunningEdge, store: Store) -> None:
    hand = await Hand.start(store)
    link = await edge.link()
    await attach(link, hand)
    flood = [{"type": "send", "tx": hand.tx, "mid": mid, "data": 0} for mid in range(1, BROKEN_RATES + 2)]
    await link.send(*flood)
    assert await closed_with(link) == 4429
    assert len(await hand.inbox()) == 1


@pytest.mark.parametrize("edge", [{"rates": RateSettings(address_messages_s=RATE_S)}], indirect=True)
async def test_messages_of_one_address(edge: RunningEdge, store: Store) -> None:
    hand = await Hand.start(store)
    path = f"/v1/transactions/{hand.tx}/messages"
    assert (await edge.http.post(path, json={"data": 1}, headers=by("9.9.9.9"))).status_code == 202
    refused = await edge.http.post(path, json={"data": 1}, headers=by("9.9.9.9"))
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert error["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) * 1000 >= error["retry_after_ms"] > 0
    for address, answer in (("9.9.9.9", "rejected"), ("8.8.8.8", "receipt")):
        link = await edge.link(additional_headers=by(address))
        await attach(link, hand)
        assert (await send(link, hand.tx, 1))["type"] == answer


@pytest.mark.parametrize("edge", [{"rates": RateSettings(address_starts_s=RATE_S)}], indirect=True)
async def test_starts_of_one_address(edge: RunningEdge) -> None:
    body = {"state": "Probe", "input": {}}
    answers = [
        await edge.http.post("/v1/transactions", json=body, headers=by(address))
        for address in ("9.9.9.9", "9.9.9.9", "8.8.8.8")
    ]
    assert [answer.status_code for answer in answers] == [201, 429, 201]
    assert len((await edge.http.get("/v1/transactions")).json()["transactions"]) == 2


@pytest.mark.parametrize("edge", [{"limits": Limits(sessions=1)}], indirect=True)
async def test_sessions_of_one_transaction(edge: RunningEdge, store: Store) -> None:
    hand = await Hand.start(store)
    link = await edge.link()
    attached = await attach(link, hand)
    refused = await attach(await edge.link(), hand)
    assert (refused["code"], refused["op"]) == ("overloaded", "attach")
    assert refused["retry_after_ms"] > 0
    assert (await attach(link, hand, session=attached["session"]))["type"] == "attached"


SHOWN = {"rates": RateSettings(subject_starts_s=3.0), "limits": Limits(sessions=7)}


@pytest.mark.parametrize("edge", [SHOWN], indirect=True)
async def test_they_are_shown(edge: RunningEdge) -> None:
    limits = (await edge.http.get("/v1/info")).json()["limits"]
    assert (limits["sessions"], limits["subject_starts_s"], limits["connection_messages_s"]) == (7, 3.0, 0.0)
    assert limits["rate_burst_s"] == BURST_S


async def test_a_proxy_that_is_no_network() -> None:
    with pytest.raises(NoNetwork, match="proxy"):
        await run_edge(EdgeConfig("redis://127.0.0.1:1/0", port=0, trusted_proxies=("proxy",)))
