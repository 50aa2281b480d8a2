"""What workers run, as the edge knows it: without their code."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request
from starlette.responses import Response

from orbit.edge.http import answers, shapes
from orbit.edge.metrics import Metrics
from orbit.protocol.inputs import unknown_state
from orbit.store.registry import waits_for
from orbit.store.store import Store
from orbit.store.types import Spec, StateRecord, Transaction

FRESH_S = 1.0
"""How long an answer of the registry is used: many starts ask it once."""
COUNTED_S = 5.0
VERSIONS = 5
"""Of each State, so many of the newest versions are counted."""


class KnownStates:
    """The States that workers published."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: tuple[StateRecord, ...] = ()
        self._read_at: float | None = None
        self._runnable: frozenset[Spec] = frozenset()
        self._asked_at: float | None = None
        self._counted_at: float | None = None
        self._reading = asyncio.Lock()

    async def list(self, _request: Request) -> Response:
        """`GET /v1/states`"""
        records = await self._store.states()
        return answers.answer(shapes.StateList(states=[_shown(record) for record in records]))

    async def newest(self, name: str) -> StateRecord:
        """The State of this name: the newest version that a worker runs, else the newest of all.

        Raises:
            BadRequest: No worker ever published it.
        """
        for fresh in (False, True):
            records = [record for record in await self._known(fresh=fresh) if record.name == name]
            if records:
                return max(records, key=lambda record: (record.live > 0, record.version))
        raise unknown_state(name, sorted({record.name for record in self._records}))

    async def note_waiting(self, metrics: Metrics) -> None:
        """Count what waits for a worker: of the newest versions of each State, and of all that workers run."""
        now = asyncio.get_running_loop().time()
        if self._counted_at is not None and now - self._counted_at < COUNTED_S:
            return
        self._counted_at = now
        runnable = await self._can_run()
        known = {
            Spec(record.queue, record.name, version)
            for record in await self._known()
            for version in range(max(1, record.version - VERSIONS + 1), record.version + 1)
        }
        metrics.note_waiting(await self._store.ready_counts(known | runnable), runnable)

    async def missing_for(self, tx: Transaction) -> str | None:
        """What a transaction waits for that isn't there."""
        return None if tx.status != "pending" else waits_for(tx, await self._can_run())

    async def _can_run(self) -> frozenset[Spec]:
        now = asyncio.get_running_loop().time
        async with self._reading:
            if self._asked_at is None or now() - self._asked_at > FRESH_S:
                self._runnable, self._asked_at = await self._store.runnable(), now()
            return self._runnable

    async def _known(self, *, fresh: bool = False) -> tuple[StateRecord, ...]:
        now = asyncio.get_running_loop().time
        async with self._reading:
            if fresh or self._read_at is None or now() - self._read_at > FRESH_S:
                self._records, self._read_at = await self._store.states(), now()
            return self._records


def _shown(record: StateRecord) -> shapes.KnownState:
    return {
        "name": record.name,
        "version": record.version,
        "queue": record.queue,
        "workers": record.live,
        "schema": json.loads(record.schema),
    }
