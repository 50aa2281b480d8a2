"""Versions: a snapshot goes through `migrate`, one that is newer than the code is left for a worker that knows it."""

from __future__ import annotations

from typing import Any

import pytest

from orbit import Connection, DefinitionError, State
from orbit.store import types as t
from orbit.store.store import Store
from tests.integration.fleet import Fleet, status, until
from tests.integration.house import House
from tests.integration.probes import Probe, Probed


class Old(Probed, name="Job", version=1):
    done: int = 0

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.done += 1
        await self.transaction.send_update([1, self.done])


class New(Probed, name="Job", version=3):
    steps_done: int
    note: str = "new"

    async def on_update(self, connection: Connection, data: Any) -> None:
        self.steps_done += 1
        await self.transaction.send_update([3, self.steps_done])

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        Probed.probe.seen.append((version, dict(fields)))
        return {"steps_done": fields["done"], "note": f"from {version}"}


async def test_an_older_snapshot_is_taken_over(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Old)
    old = await fleet.worker(Old)
    await house.send(tx, 1)
    await until(house.store, tx, lambda found: found.status == "idle" and found.head.seq == 1)
    await fleet.drain(old)
    await fleet.worker(New)
    await house.send(tx, 2)
    await until(house.store, tx, lambda found: found.head.seq == 2)
    assert probe.seen == [(1, {"done": 1})]
    await house.send(tx, 3)
    found = await until(house.store, tx, lambda found: found.head.seq == 3 and found.status == "idle")
    assert await house.updates(tx) == [[1, 1], [3, 2], [3, 3]]
    assert found.version == 3
    assert probe.seen == [(1, {"done": 1})], "once it is written down anew it is of today"


async def test_a_newer_one_is_left_alone_and_says_what_it_waits_for(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(New, '{"steps_done": 0}')
    await fleet.worker(Old)
    other = await house.start(Old)
    await house.send(other, 1)
    await until(house.store, other, lambda found: found.head.seq == 1)
    shown = await house.store.get(tx)
    assert shown is not None
    assert shown.status == "pending"
    assert await house.store.waiting_for(shown) == "worker"
    await fleet.worker(New)
    await until(house.store, tx, status("idle"))


async def test_an_input_of_before_goes_through_migrate_too(house: House, probe: Probe, fleet: Fleet) -> None:
    tx = await house.start(Old, '{"done": 5}')
    await fleet.worker(New)
    await house.send(tx, 1)
    await until(house.store, tx, lambda found: found.head.seq == 1)
    assert await house.updates(tx) == [[3, 6]]


class Raises(Probed, name="Job", version=2, retries=0):
    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> Any:
        match fields.get("done"):
            case 1:
                raise KeyError("on purpose")
            case 2:
                return "no fields"
            case 3:
                return {"unknown": "x" * 10, "n": "seven"}
        return fields

    n: int = 0


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (1, "migrate failed on its snapshot of version 1"),
        (2, "Raises.migrate: must return the fields as a dict, not str"),
        (3, "its snapshot of version 1 can't be rebuilt: n: "),
    ],
)
async def test_a_migrate_that_fails_is_told_and_nothing_is_lost(
    house: House, probe: Probe, fleet: Fleet, done: int, said: str
) -> None:
    tx = await house.start(Old, f'{{"done": {done}}}')
    await fleet.worker(Raises)
    found = await until(house.store, tx, status("failed"))
    assert found.error is not None
    assert found.error.type == "SnapshotError"
    assert said in found.error.message
    await fleet.close()
    await house.store.retry(tx, "request")
    await fleet.worker(New)
    await house.send(tx, 1)
    await until(house.store, tx, lambda found: found.head.seq == 2)
    assert await house.updates(tx) == [[3, done + 1]]


def test_a_migrate_of_the_wrong_shape_is_a_definition_error() -> None:
    with pytest.raises(DefinitionError, match="must be a plain classmethod"):

        class _NoClassMethod(State, stays_open=True):
            def migrate(self, version: int, fields: Any) -> Any: ...

    with pytest.raises(DefinitionError, match="must take"):

        class _Takes(State, stays_open=True):
            @classmethod
            def migrate(cls, fields: Any) -> Any: ...


async def test_what_workers_can_run_is_known(store: Store) -> None:
    await store.beat_worker(t.WorkerRecord("w", (t.Spec("default", "Job", 1),), 5), 10)
    assert await store.runnable() == {t.Spec("default", "Job", 1)}
