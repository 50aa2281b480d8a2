"""A transaction that lost its workers again and again runs in a process of its own: it can take no other down with it.

The process that holds the grant lends it: it starts `orbit alone`, which goes on under the same epoch in the same
worker's name, and waits for its end.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from orbit.config import PARENT
from orbit.protocol.ids import Epoch, TxId
from orbit.store import types as t

log = structlog.get_logger("orbit.worker")

_STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class Loan:
    """A grant and all that is needed to go on with it elsewhere. `settings` are those of a WorkerConfig."""

    worker: str
    grant: t.Grant
    deadline_s: float
    settings: dict[str, Any]

    def text(self) -> str:
        said = asdict(self)
        del said["grant"]["loaded"], said["grant"]["quiet"]
        return json.dumps(said)

    @classmethod
    def of(cls, text: str) -> Loan:
        said = json.loads(text)
        grant = said["grant"]
        return cls(
            said["worker"],
            t.Grant(
                TxId(grant["tx"]), Epoch(grant["epoch"]), grant["number"], t.Spec(**grant["spec"]), grant["crashed"],
                grant["crashes"],
            ),
            said["deadline_s"],
            said["settings"],
        )  # fmt: skip


async def lend(command: Sequence[str], loan: Loan, draining: asyncio.Event, drain_s: float) -> None:
    """Run the transaction in a process of its own, until that ends; told to drain, it hands over.

    A process that was lost holds the lease until that runs out: then another worker counts the crash.

    Cancellation: the process is killed.
    """
    tx = loan.grant.tx
    log.warning("it runs in a process of its own: its workers were lost", tx=tx, crashes=loan.grant.crashes)
    env = os.environ | {PARENT: str(os.getpid())}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, start_new_session=True, env=env
    )
    ended = asyncio.ensure_future(process.communicate(loan.text().encode()))
    told = asyncio.ensure_future(draining.wait())
    try:
        await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.terminate()
            await asyncio.wait((ended,), timeout=drain_s + _STOP_S)
    finally:
        told.cancel()
        if process.returncode is None and not ended.done():
            process.kill()
        await asyncio.gather(ended, told, return_exceptions=True)
    if process.returncode:
        log.error("a process for one transaction was lost", tx=tx, status=process.returncode)
