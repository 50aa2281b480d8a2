"""An edge that knows the keys."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orbit.store.store import Store
from tests.integration.edge_bench import RunningEdge
from tests.integration.tokens.bench import (
    KEYS,
    RECORD,
)


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
