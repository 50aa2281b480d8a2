"""`orbit durability`: what must hold what a deployment acknowledges; looked at, and changed."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orbit.cli import options as o
from orbit.cli.output import note
from orbit.cli.where import Where


def durability(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="memory, fsync, replicated or replicated-fsync; none: say what it is.",
            show_default=False,
        ),
    ] = None,
    replicas: o.Replicas = None,
    redis: o.Redis = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """What must hold what is acknowledged: say it, or change it. A process that runs keeps to the old one."""
    from orbit.store.durability import durability as chosen  # here, so that other commands start sooner

    asyncio.run(_go(Where(redis, None, namespace, partitions), chosen(kind, replicas)))


async def _go(where: Where, wanted: object) -> None:
    from orbit.cli.deployment import opened_store
    from orbit.store.durability import Durability

    async with opened_store(where, keep=False) as store:
        if not isinstance(wanted, Durability):
            print(store.durability)
            return
        before = store.durability
        await store.change_durability(wanted)
        print(store.durability)
        if before != wanted:
            note(f"it was {before}: start every worker, edge and application again, one after the other")
