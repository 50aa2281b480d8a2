"""The registers of a deployment: States and workers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart, milliseconds

FORGET_AFTER_MS = 60_000
"""How long after its last beat a silent worker is taken off the register."""


def waits_for(transaction: t.Transaction, runnable: frozenset[t.Spec]) -> str | None:
    """What a pending transaction waits for.

    Returns:
        worker: No live worker can run its State in its version, from its queue. limit <name>: A permit of that limit.
        None: Nothing that isn't there: its turn, or its time.
    """
    if transaction.status != "pending":
        return None
    if t.Spec(transaction.queue, transaction.state, transaction.version) not in runnable:
        return "worker"
    return f"limit {transaction.waits}" if transaction.waits is not None else None


class Registers(StorePart):
    """Processes that beat."""

    async def _beat(self, register: str, member: str, ttl_s: float, says: str) -> bool:
        return bool(await self._link.run(script.BEAT, (register,), member, milliseconds(ttl_s), says))

    async def _alive(self, register: str) -> tuple[int, dict[str, tuple[int, str]]]:
        """The server's clock in ms, and of each process until when it counts as alive and what it says."""
        now, *flat = await self._link.run(script.ALIVE, (register,))
        records = {}
        for member, raw in decode.pairs(flat).items():
            until, _, says = raw.decode().partition(" ")
            records[member.decode()] = (int(until), says)
        return int(now), records

    async def _forget(self, register: str, member: str, *, only_silent: bool = False) -> None:
        await self._link.run(script.FORGET, (register,), member, "1" if only_silent else "")


class Registry(Registers):
    """What runs here."""

    async def publish_states(self, states: Sequence[t.StateRecord]) -> None:
        """Record States as a worker runs them; a newer version that is known stays."""
        for state in states:
            record = asdict(state)
            del record["live"]
            await self._link.run(
                script.PUBLISH, (self._keys.states,), state.name, state.version, json.dumps(record, sort_keys=True)
            )

    async def states(self) -> tuple[t.StateRecord, ...]:
        """All States that were ever published, by name, with how many live workers run each."""
        flat = decode.pairs(await self._link.read("HGETALL", self._keys.states))
        live = Counter(name for worker in await self.workers() for name in {spec.state for spec in worker.specs})
        records = (t.StateRecord(**json.loads(raw)) for name, raw in flat.items() if not name.endswith(b":version"))
        return tuple(sorted((replace(one, live=live[one.name]) for one in records), key=lambda one: one.name))

    async def runnable(self) -> frozenset[t.Spec]:
        """What the live workers can run."""
        return frozenset(spec for worker in await self.workers() for spec in worker.specs)

    async def waiting_for(self, transaction: t.Transaction) -> str | None:
        """What a pending transaction waits for: see `waits_for`."""
        return waits_for(transaction, await self.runnable())

    async def beat_worker(self, worker: t.WorkerRecord, ttl_s: float) -> None:
        """This worker is alive for `ttl_s` more."""
        specs = [[spec.queue, spec.state, spec.version] for spec in worker.specs]
        await self._beat(self._keys.workers, worker.id, ttl_s, json.dumps({"specs": specs, "room": worker.room}))

    async def forget_worker(self, worker: str) -> None:
        """This worker left."""
        await self._forget(self._keys.workers, worker)

    async def workers(self) -> tuple[t.WorkerRecord, ...]:
        """The live ones, by id."""
        now, records = await self._alive(self._keys.workers)
        found = []
        for worker, (until, says) in sorted(records.items()):
            if until > now:
                record = json.loads(says)
                found.append(t.WorkerRecord(worker, tuple(t.Spec(*spec) for spec in record["specs"]), record["room"]))
            elif until + FORGET_AFTER_MS < now:
                await self._forget(self._keys.workers, worker, only_silent=True)
        return tuple(found)
