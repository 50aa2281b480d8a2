"""Keys, tokens and an edge that asks for them, as processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.processes import EndedEarly, Stage
from tests.support.waiting import PATIENCE_S
from tests.system.conftest import STATES

pytestmark = pytest.mark.system
APP = STATES / "cli_states.py"


async def run(stage: Stage, *arguments: str, status: int = 0, token: str = "") -> tuple[list[str], list[str]]:
    """Run a command to its end: its lines on stdout, and on stderr."""
    process = await stage.orbit(*arguments, env={"ORBIT_TOKEN": token} if token else {})
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == status, process.tail()
    return list(process.out), list(process.said)


async def test_a_deployment_with_tokens(stage: Stage, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    out, _ = await run(stage, "keys", "--alg", "ES256")
    keys.write_text("\n".join(out))
    keys.chmod(0o600)
    server = await stage.embedded()
    _, edge = await asyncio.gather(
        stage.worker(APP, server.url), stage.edge(server.url, "--token-keys", str(keys), "--host", "0.0.0.0")
    )

    async def token(tx: str, can: str) -> str:
        [text], _ = await run(stage, "token", "--token-keys", str(keys), "--tx", tx, "--can", can, "--ttl-s", "60")
        return text

    [tx], _ = await run(stage, "start", "Quick", "--url", edge.url, token=await token("*", "start"))
    _, [told] = await run(stage, "tail", tx, "--url", edge.url, status=1)
    assert told.startswith("orbit: unauthorized")
    assert "ORBIT_TOKEN" in told
    _, [told] = await run(stage, "tail", tx, "--url", edge.url, status=1, token=await token("o" * 16, "watch"))
    assert told.startswith("orbit: forbidden")
    _, [told] = await run(stage, "tail", tx, "--url", edge.url, status=1, token="no token")
    assert told == "orbit: unauthorized: the token isn't valid"
    lines, _ = await run(stage, "tail", tx, "--url", edge.url, token=await token(tx, "watch"))
    assert lines == ['{"n":1}', '{"n":2}', '{"n":3}']


async def test_an_edge_with_a_bad_key_file(stage: Stage, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    with pytest.raises(EndedEarly) as ended:
        await stage.edge("redis://127.0.0.1:1/0", "--token-keys", str(keys))
    assert ended.value.code == 1
    assert f"orbit: --token-keys {keys}: it isn't a JWK Set" in str(ended.value)
