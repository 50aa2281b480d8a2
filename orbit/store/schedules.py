"""Schedules: what starts again and again, each in the partition of its name. Their records are their caller's text."""

from __future__ import annotations

import asyncio

from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart


class Schedules(StorePart):
    """What fires when."""

    async def schedule(self, name: str, record: str, next_ms: int) -> bool:
        """Record a schedule that fires first at `next_ms`; whether it is a new one. In `schedule.lua`.

        The same record under the same name changes nothing, so that each deploy may say it again.
        """
        return bool(await self._link.run(script.SCHEDULE, self._key(name), name, record, next_ms))

    async def unschedule(self, name: str) -> bool:
        """Take a schedule away; whether there was one. In `unschedule.lua`."""
        return bool(await self._link.run(script.UNSCHEDULE, self._key(name), name))

    async def fired(self, row: t.ScheduleRow, next_ms: int | None) -> bool:
        """Note that it fired at `row.next_ms`, and when it does next (None: never again); in `fire.lua`.

        Returns:
            False: Another process noted it before, or it is another one by now.
        """
        return bool(
            await self._link.run(
                script.FIRE, self._key(row.name), row.name, row.record, row.next_ms, "" if next_ms is None else next_ms
            )
        )

    async def schedule_named(self, name: str) -> t.ScheduleRow | None:
        """One schedule."""
        (key,) = self._key(name)
        record = await self._link.read("HGET", f"{key}:schedules", name)
        next_ms = await self._link.read("HGET", f"{key}:fires", name)
        if record is None or next_ms is None:
            return None
        return t.ScheduleRow(name, record.decode(), int(next_ms))

    async def schedules(self) -> tuple[t.ScheduleRow, ...]:
        """All of them, by name."""
        found = await asyncio.gather(*(self._of(partition) for partition in range(self._keys.partitions)))
        return tuple(sorted((row for rows in found for row in rows), key=lambda row: row.name))

    async def _of(self, partition: int) -> list[t.ScheduleRow]:
        key = self._keys.partition(partition)
        records = decode.pairs(await self._link.read("HGETALL", f"{key}:schedules"))
        if not records:
            return []
        fires = decode.pairs(await self._link.read("HGETALL", f"{key}:fires"))
        return [
            t.ScheduleRow(name.decode(), record.decode(), int(fires[name]))
            for name, record in records.items()
            if name in fires
        ]

    def _key(self, name: str) -> tuple[str]:
        return (self._keys.partition(self._keys.partition_named(name)),)
