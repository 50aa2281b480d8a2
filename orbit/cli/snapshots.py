"""`orbit snapshots export`: the fields of transactions, for a test that replays them through `migrate`."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from orbit.cli import options as o
from orbit.cli.where import Where

app = typer.Typer(help="The fields of transactions, as they are kept.", rich_markup_mode=None)
PAGE = 1000


@app.callback()
def _snapshots() -> None:
    """The fields of transactions, as they are kept."""


@app.command()
def export(
    state: Annotated[str | None, o.option("state", "Only those of this State.", metavar="S")] = None,
    limit: Annotated[int, o.option("limit", "How many, at most.", metavar="N", least=1)] = 1000,
    redis: o.Redis = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Print the newest snapshot of each transaction that isn't over, a line of JSON each: the newest first.

    They hold what your States hold: treat them as you treat Redis itself. `orbit.testing.replay_snapshots` reads them.
    """

    asyncio.run(_export(Where(redis, None, namespace, partitions), state, limit))


async def _export(where: Where, state: str | None, left: int) -> None:
    from orbit.cli.deployment import opened_store  # here, so that other commands start sooner

    page: str | None = None
    async with opened_store(where) as store:
        while left > 0:
            found = await store.list(state=state, limit=min(left, PAGE), page=page)
            for one in found.transactions:
                snapshot = await store.newest_snapshot(one.tx)
                if snapshot is None or one.status in ("finished", "cancelled"):
                    continue
                version, fields = snapshot
                told = {"state": one.state, "version": version, "first": one.number == 0, "fields": json.loads(fields)}
                print(json.dumps(told, ensure_ascii=False))
                left -= 1
            page = found.next
            if page is None:
                return
