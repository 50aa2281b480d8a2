"""A State and the worker of one of its transactions, both by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from orbit import State
from orbit.client import Broker
from orbit.protocol.ids import PublicName, TxId
from orbit.protocol.values import pack
from orbit.store.store import Store
from orbit.store.types import Commit, Done, Grant, NewEnd, NewUpdate, Repeated, Spec, StateRecord

RECORD = StateRecord(
    name="Count",
    version=1,
    queue="default",
    schema='{"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}',
    connection_hooks=False,
    keep_updates=10,
    retain_s=60.0,
)


class Count(State):
    total: int = Field(alias="sum")
    blob: bytes = b""
    name: str = ""

    @field_validator("name")
    @classmethod
    def lower(cls, name: str) -> str:
        if name != name.lower():
            raise ValueError("must be lower case")
        return name

    async def run(self) -> None: ...


@dataclass
class Job:
    store: Store
    tx: TxId
    grant: Grant
    number: int = 0

    @classmethod
    async def started(cls, store: Store, broker: Broker) -> Job:
        await store.publish_states([RECORD])
        tx = await broker.start("Count", {"total": 3})
        return await cls.claimed(store, tx)

    @classmethod
    async def claimed(cls, store: Store, tx: str, time: int = 1) -> Job:
        """Be the worker of `tx`, once for each `time`."""
        partition, spec = store.partition_of(TxId(tx)), Spec("default", "Count", 1)
        [grant] = await store.claim(partition, "worker", [spec], 10, 60_000, f"claim-{tx}-{time}")
        return cls(store, TxId(tx), grant, grant.number)

    async def commit(self, **what: Any) -> None:
        answer = await self.store.commit(Commit(self.tx, self.grant.epoch, self.number, **what))
        assert isinstance(answer, Done | Repeated)
        self.number = answer.number

    async def update(self, *data: object, session: str | None = None) -> None:
        name = None if session is None else PublicName(session)
        await self.commit(entries=tuple(NewUpdate(pack(each), name) for each in data))

    async def end(self, status: Any = "finished", result: object = None, **more: Any) -> None:
        await self.commit(end=NewEnd(status, pack(result), **more))
