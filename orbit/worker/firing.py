"""Schedules that fire: each time is one start, however many workers hear of it, and whatever they lose of it."""

from __future__ import annotations

import structlog

from orbit.errors import BadRequest, TooLarge
from orbit.store import types as t
from orbit.store.planning import Plan
from orbit.store.starts import StartOptions, by_name
from orbit.store.store import Store

log = structlog.get_logger("orbit.worker")


async def fire(store: Store, name: str, at_ms: int, now_ms: int) -> None:
    """Start what the schedule starts at `at_ms`, and note when it fires next.

    The start has an id that is derived from name and time, so whoever does it again starts nothing. Times that passed
    while nobody was there are made up for by this one start.
    """
    row = await store.schedule_named(name)
    if row is None or row.next_ms != at_ms:
        return
    plan = Plan.of(row.record)
    try:
        options = StartOptions(queue=plan.queue, priority=plan.priority)
        tx = store.derived_id("schedule", name, str(at_ms))
        new = by_name(plan.state, await store.states(), plan.fields, tx, options)
    except (BadRequest, TooLarge) as error:
        log.error("a schedule can't start its State", schedule=name, state=plan.state, error=error.message)
    else:
        await store.start(new)
    await store.fired(t.ScheduleRow(name, row.record, at_ms), plan.next_ms(max(at_ms, now_ms)))
