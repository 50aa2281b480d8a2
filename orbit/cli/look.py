"""`ls` and `show`: what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table

from orbit.cli import options as o
from orbit.cli.output import stdout
from orbit.cli.talk import asked, known
from orbit.cli.where import Where
from orbit.protocol.json_codec import json_dumps

if TYPE_CHECKING:
    from orbit.cli.deployment import Deployment
    from orbit.client import TransactionInfo

PAGE = 100
COLUMNS = ("id", "state", "status", "created_at", "cursor", "waiting_for")


def ls(
    state: Annotated[str | None, o.option("state", "Only those of this State.", metavar="S")] = None,
    status: Annotated[str | None, o.option("status", "Only those of this status.", metavar="S")] = None,
    limit: Annotated[int, o.option("limit", "How many, at most.", metavar="N", least=1)] = 100,
    as_json: Annotated[bool, o.flag("json", "One transaction a line.")] = False,
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """List transactions, the newest first."""

    async def go(deployment: Deployment) -> None:
        rows = [row_of(found) for found in await _listed(deployment, state, status, limit)]
        if as_json:
            for row in rows:
                print(json_dumps(row).decode())
        else:
            print_rows(rows, COLUMNS)

    asked(Where(redis, url, namespace, partitions), go)


def show(
    id: o.Id,
    as_json: Annotated[bool, o.flag("json", "The transaction as JSON.")] = False,
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Show one transaction."""

    async def go(deployment: Deployment) -> None:
        row = row_of(await deployment.get(known(id)))
        if as_json:
            print(json_dumps(row).decode())
        else:
            _print_fields(row)

    asked(Where(redis, url, namespace, partitions), go)


async def _listed(deployment: Deployment, state: str | None, status: str | None, limit: int) -> list[TransactionInfo]:
    """The newest `limit` of them, page by page."""
    rows: list[TransactionInfo] = []
    page: str | None = None
    while len(rows) < limit:
        found = await deployment.list(state=state, status=status, limit=min(limit - len(rows), PAGE), page=page)
        rows += found.transactions
        page = found.next
        if page is None:
            break
    return rows


def row_of(info: TransactionInfo) -> dict[str, Any]:
    """A transaction as HTTP shows it."""
    row = asdict(info)
    for name in ("created_at", "started_at", "ended_at"):
        moment: datetime | None = row[name]
        row[name] = moment and moment.isoformat().replace("+00:00", "Z")
    if not info.over:
        del row["result"]
    for name in ("error", "waiting_for", "traceback", "parent"):
        if row[name] is None:
            del row[name]
    return row


def print_rows(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """On a terminal a table; else the same columns with tabs between, and no heading."""
    console = stdout()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(_cell(row.get(column)) for column in columns))
        return
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(table)


def _print_fields(row: dict[str, Any]) -> None:
    console = stdout()
    width = max(map(len, row))
    for name, value in row.items():
        if value is not None:
            console.print(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json_dumps(value).decode()
