"""`orbit schedule`, `orbit schedules` and `orbit unschedule`: what starts again and again. Over Redis alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orbit.cli import options as o
from orbit.cli.failures import CommandError
from orbit.cli.look import print_rows
from orbit.cli.talk import asked, json_object
from orbit.cli.where import Where
from orbit.protocol.json_codec import json_dumps

if TYPE_CHECKING:
    from orbit.cli.deployment import Deployment
    from orbit.client import Broker

COLUMNS = ("name", "state", "cron", "tz", "next_at")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)]


def schedules(
    as_json: Annotated[bool, o.flag("json", "One schedule a line.")] = False,
    redis: o.Redis = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """List what starts again and again."""

    async def go(broker: Broker) -> None:
        rows: list[dict[str, Any]] = []
        for one in await broker.schedules():
            row = {name: getattr(one, name) for name in (*COLUMNS, "input", "queue", "priority")}
            row["next_at"] = one.next_at.isoformat().replace("+00:00", "Z")
            rows.append(row)
        if as_json:
            for row in rows:
                print(json_dumps(row).decode())
        else:
            print_rows(rows, COLUMNS)

    _over_redis(Where(redis, None, namespace, partitions), go)


def schedule(
    name: Name,
    state: Annotated[str, typer.Argument(metavar="STATE", help="The State's name.", show_default=False)],
    cron: Annotated[str, o.option("cron", "Minute, hour, day of the month, month, day of the week.", metavar="CRON")],
    tz: Annotated[str, o.option("tz", "The time zone that these are in, as in Europe/Berlin.", metavar="ZONE")] = "UTC",
    input: Annotated[str, o.option("input", "The fields that it starts with: a JSON object.", metavar="JSON")] = "{}",
    redis: o.Redis = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Start a State again and again.

    Another schedule of the same name goes.
    """
    fields = json_object(input)
    _over_redis(
        Where(redis, None, namespace, partitions), lambda broker: broker.schedule(name, state, fields, cron=cron, tz=tz)
    )


def unschedule(
    name: Name,
    redis: o.Redis = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Take a schedule away; what it started goes on."""
    _over_redis(Where(redis, None, namespace, partitions), lambda broker: broker.unschedule(name))


def _over_redis(where: Where, go: Any) -> None:
    from orbit.client import Broker  # here, so that other commands start sooner

    async def run(deployment: Deployment) -> None:
        if not isinstance(deployment, Broker):
            raise CommandError("schedules are told over Redis: say --redis URL")
        await go(deployment)

    asked(where, run)
