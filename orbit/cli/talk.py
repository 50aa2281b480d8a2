"""`start`, `tail`, `send`, `cancel`, `retry` and `result`: what one says to a transaction, and hears from it."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orbit.cli import options as o
from orbit.cli.failures import CommandError
from orbit.cli.output import note
from orbit.cli.where import Where
from orbit.errors import BadRequest, TransactionFailed
from orbit.protocol.codecs import JSON
from orbit.protocol.cursors import NEW_ONLY, parse_cursor
from orbit.protocol.ids import is_name
from orbit.protocol.json_codec import json_dumps, json_loads
from orbit.protocol.messages import End, Reset, Update, Value
from orbit.protocol.sessions import Lost

if TYPE_CHECKING:
    from orbit.cli.deployment import Deployment
    from orbit.client.attachment import Event

Result = TypeVar("Result")


def start(
    state: Annotated[str, typer.Argument(metavar="STATE", help="The State's name.", show_default=False)],
    input: Annotated[
        str, o.option("input", "The fields that it starts with: a JSON object, or - for stdin.", metavar="JSON")
    ] = "{}",
    id: Annotated[
        str | None, o.option("id", "The new transaction's id; drawn where it is missing.", metavar="ID")
    ] = None,
    delay_s: Annotated[float, o.option("delay-s", "Not before so long from now.", metavar="S", least=0.0)] = 0.0,
    at: Annotated[
        str | None, o.option("at", "Not before this time, as in 2031-02-03T04:05:06Z.", metavar="TIME")
    ] = None,
    start_queue: Annotated[
        str | None, o.option("start-queue", "A queue instead of its State's.", metavar="NAME")
    ] = None,
    priority: Annotated[int, o.option("priority", "The higher the sooner, from -100 to 100.", metavar="N")] = 0,
    follow: Annotated[bool, o.flag("follow", "Then follow it to its end.")] = False,
    as_json: o.Json = False,
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Start a transaction; prints its id."""
    fields = json_object(sys.stdin.read() if input == "-" else input)
    if id is not None and not is_name(id):
        raise typer.BadParameter("--id has 16 to 64 characters of A-Za-z0-9_-")

    async def go(deployment: Deployment) -> None:
        tx = await deployment.start(
            state, fields, id=id, delay_s=delay_s, at=_time(at), queue=start_queue, priority=priority
        )
        print(tx, flush=True)
        if follow:
            await _follow(deployment, tx, "0", as_json)

    asked(Where(redis, url, namespace, partitions), go)


def tail(
    id: o.Id,
    after: Annotated[
        str, o.option("after", "A cursor to go on from; 0: the start, $: only what is new.", metavar="CURSOR")
    ] = "0",
    as_json: Annotated[bool, o.flag("json", "One wire message a line.")] = False,
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Follow a transaction to its end; prints its updates.

    The data of each is one line on stdout. It fails where the transaction failed or was cancelled.
    """
    if after != NEW_ONLY and parse_cursor(after) is None:
        raise typer.BadParameter(f"--after {after!r} is no cursor")
    asked(Where(redis, url, namespace, partitions), lambda deployment: _follow(deployment, known(id), after, as_json))


def send(
    id: o.Id,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="JSON, or plain text where it isn't JSON.", show_default=False)
    ],
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Send a message to a transaction; done once it is stored."""
    value = _json_or_text(data)
    key = secrets.token_urlsafe(16)
    asked(
        Where(redis, url, namespace, partitions),
        lambda deployment: deployment.send(known(id), value, idempotency_key=key),
    )


def cancel(
    id: o.Id,
    reason: Annotated[str, o.option("reason", "Why.", metavar="TEXT")] = "",
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Cancel a transaction; done once that is certain to happen."""
    asked(Where(redis, url, namespace, partitions), lambda deployment: deployment.cancel(known(id), reason))


def retry(
    id: o.Id,
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Let a failed transaction go on from its last commit."""
    asked(Where(redis, url, namespace, partitions), lambda deployment: deployment.retry(known(id)))


def result(
    id: o.Id,
    wait_s: Annotated[
        float | None, o.option("wait-s", "Wait no longer than this for its end.", metavar="S", least=0.0)
    ] = None,
    redis: o.Redis = None,
    url: o.Url = None,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
) -> None:
    """Wait for a transaction's end; prints its result."""

    async def go(deployment: Deployment) -> None:
        try:
            value = await deployment.result(known(id), wait_s=wait_s)
        except TimeoutError:
            raise CommandError(f"it isn't over after {wait_s:g} s") from None
        print(_shown(value))

    asked(Where(redis, url, namespace, partitions), go)


def asked(where: Where, go: Callable[[Deployment], Awaitable[Result]]) -> Result:
    """Do `go` with the deployment at `where`."""
    from orbit.cli.deployment import opened  # here, so that other commands start sooner

    async def run() -> Result:
        async with opened(where) as deployment:
            return await go(deployment)

    main: Coroutine[Any, Any, Result] = run()
    return asyncio.run(main)


def known(tx: str) -> str:
    """`tx`, if it may be a transaction's id."""
    if not is_name(tx):
        raise CommandError(f"not_found: no such transaction: {tx!r} is no id")
    return tx


async def _follow(deployment: Deployment, tx: str, after: str, as_json: bool) -> None:
    await deployment.get(tx)  # an edge that isn't there is found out now: later on, a client would wait for it
    async with aclosing(deployment.events(tx, after=after)) as events:
        async for event in events:
            _print_event(event, as_json)
            if isinstance(event, End) and event.status != "finished":
                raise _failure(event)


def _print_event(event: Event, as_json: bool) -> None:
    if isinstance(event, Lost):  # this client sent nothing
        return
    if as_json:
        print(JSON.encode(event).decode(), flush=True)
    elif isinstance(event, Update):
        print(_shown(event.data), flush=True)
    elif isinstance(event, Reset):
        note(f"reset ({event.reason}): what came before is no more; the view is {_shown(event.view)}")
    elif isinstance(event, End) and event.status == "finished":
        note(event.status)


def _failure(end: End) -> TransactionFailed:
    """An end that isn't the one that was wished for, as `orbit result` raises it."""
    why = end.error or {"type": end.status, "message": f"the transaction was {end.status}"}
    return TransactionFailed(why["message"], status=end.status, type=why["type"])


def _shown(value: Value) -> str:
    return json_dumps(value).decode()


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"--at {text!r} is no time, as in 2031-02-03T04:05:06Z") from None


def json_object(text: str) -> dict[str, Value]:
    try:
        value = json_loads(text, what="--input")
    except BadRequest as error:
        raise typer.BadParameter(error.message) from None
    if not isinstance(value, dict):
        raise typer.BadParameter("--input must be a JSON object")
    return value


def _json_or_text(text: str) -> Value:
    """Plain text where it isn't JSON at all; JSON that isn't a value (NaN, a number too long) is refused."""
    try:
        return json_loads(text, what="DATA")
    except BadRequest as error:
        if "not JSON" in error.message:
            return text
        raise typer.BadParameter(error.message) from None
