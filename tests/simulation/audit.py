"""What must hold in Redis after a script has run, whoever sent it: looked up in its data, without the scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.simulation.engine import Engine


def _renewed(engine: Engine, fields: list[bytes], reply: Any) -> Iterator[str]:
    """Only who holds a transaction renews its lease."""
    if not isinstance(reply, list):
        return
    prefix, worker, asked = fields[4], fields[5], fields[7:]
    for answer, tx, epoch in zip(reply, asked[::3], asked[1::3], strict=True):
        owner = engine.ask([b"HMGET", prefix + b":" + tx, b"owner", b"epoch"])
        if answer and owner != [worker, epoch]:
            yield f"{worker!r} renewed {tx!r} under {epoch!r}, which is held by {owner}"


def _asleep(engine: Engine, fields: list[bytes], _reply: Any) -> Iterator[str]:
    """What sleeps has no unread message: nobody would ever look."""
    tx = fields[3]
    if engine.ask([b"HGET", tx, b"status"]) == b"idle" and engine.ask([b"XLEN", tx + b":inbox"]):
        yield f"{tx!r} sleeps with an unread message"


def _committed(engine: Engine, fields: list[bytes], reply: Any) -> Iterator[str]:
    """Only who holds a transaction writes."""
    tx, epoch = fields[3], fields[6]
    status, held = engine.ask([b"HMGET", tx, b"status", b"epoch"])
    if isinstance(reply, list) and reply[0] == b"done" and status == b"running" and held != epoch:
        yield f"two writers at once: a commit to {tx!r} was taken under {epoch!r}, while {held!r} holds it"


AUDITS: dict[str, Callable[[Engine, list[bytes], Any], Iterator[str]]] = {
    "commit": _committed,
    "renew": _renewed,
    "release": _asleep,
    "append": _asleep,
}
"""By script."""
