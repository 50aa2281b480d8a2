"""Permits: a State with `max_running` or `rate_per_s` asks for one before its `run` begins, and holds on to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from typing import Any

from orbit.protocol.ids import TxId
from orbit.state import Options
from orbit.store import types as t
from orbit.store.store import Store
from orbit.worker.actor import PERMIT_AGAIN_S, Actor, Pause
from orbit.worker.settling import persist

_LEASES = 3.0
"""A permit outlives a lost worker by so many lease times: the transaction goes on with it."""
_KEY_CHARACTERS = 64


def limit_of(options: Options, fields: Any) -> t.Limit | None:
    """The limit that a State's `run` is under, None where there is none. `fields`: the State."""
    if options.max_running is None and options.rate_per_s is None:
        return None
    name = options.name
    if options.key is not None:
        name += "/" + _short(str(getattr(fields, options.key)))
    gap_ms = 0.0 if options.rate_per_s is None else 1000.0 / options.rate_per_s
    return t.Limit(name, options.max_running or 0, gap_ms)


def _short(value: str) -> str:
    if len(value) <= _KEY_CHARACTERS and value.isprintable():
        return value
    return sha256(value.encode(errors="replace")).hexdigest()


async def admitted(actor: Actor) -> None:
    """Return once the transaction may run: with a permit, where it needs one. A long wait is spent unloaded."""
    actor.permit = limit_of(actor.options, actor.state)
    while actor.permit is not None:
        actor.stirred.clear()  # before it asks: the permit may be given, and told of, while the answer is on its way
        if await ask(actor, actor.permit):
            return
        actor.pause = Pause(None, actor.stirred.is_set, limit=actor.permit.name)
        actor.nudge()
        try:
            async with asyncio.timeout(PERMIT_AGAIN_S):
                await actor.stirred.wait()
        except TimeoutError:
            pass
        finally:
            actor.pause = None


async def ask(actor: Actor, limit: t.Limit) -> bool:
    """Ask for a permit, or hold on to it; those that got one thereby are told."""
    lease_ms = round(_LEASES * actor.around.lease_s * 1000)
    store = actor.around.store
    answer = await persist(lambda: store.permit(limit, actor.tx, lease_ms, actor.priority))
    await tell(store, limit.name, answer.admitted)
    return answer.held


async def hold(actor: Actor) -> None:
    """Hold on to the permit until cancelled."""
    while actor.permit is not None:
        await asyncio.sleep(actor.around.lease_s)
        if actor.permit is not None and not await ask(actor, actor.permit):
            actor.log.warning("a permit was lost: it runs beside as many as may", limit=actor.permit.name)


async def give_back(actor: Actor) -> None:
    """Give the permit back, or stop waiting for it."""
    limit, actor.permit = actor.permit, None
    if limit is not None:
        store, tx = actor.around.store, actor.tx
        await tell(store, limit.name, await persist(lambda: store.unpermit(limit.name, tx)))


async def tell(store: Store, limit: str, given: Iterable[TxId]) -> None:
    """Rouse those that got a permit; what is over passes it on. Should that be lost, they ask again by themselves."""
    to_rouse = list(given)
    while to_rouse:
        tx = to_rouse.pop()
        if not await persist(partial(store.rouse, tx, "permit")):
            to_rouse += await persist(partial(store.unpermit, limit, tx))
