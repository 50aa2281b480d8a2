"""Pages of other origins."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.edge_bench import Hand, RunningEdge, attach
from tests.integration.tokens.bench import (
    bearer,
    sign,
)


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
