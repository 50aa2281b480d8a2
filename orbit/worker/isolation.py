"""A transaction that lost its workers again and again runs in a process of its own: it can take no other down with it.

The process that holds the grant lends it: it starts `orbit alone`, which goes on under the same epoch in the same
worker's name, and waits for its end. Until that process says that it has taken over, the lender renews the lease, so
that a slow start doesn't lose it. Where the process is lost before it could begin, that counts as any other crash does:
the transaction fails in the end.

A worker that was lost with a hundred transactions leaves a hundred suspects, and whoever claims them must not fall
under a hundred processes that start at once: a few start at a time, and the others wait under their leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from orbit.config import PARENT
from orbit.protocol.ids import Epoch, TxId
from orbit.store import types as t
from orbit.worker.lease import Lease
from orbit.worker.renewals import KeepsLeases

log = structlog.get_logger("orbit.worker")

_STOP_S = 1.0
START_S = 120.0
"""How long the process may take until it says that it has taken over."""
STARTS_AT_ONCE = max(2, os.cpu_count() or 1)
"""So many of a worker's processes for one transaction start at a time."""


@dataclass(frozen=True, slots=True)
class Loan:
    """A grant and all that is needed to go on with it elsewhere.

    Attributes:
        settings: Those of a WorkerConfig.
        begun: The file descriptor to which a byte is written when it has taken over.
    """

    worker: str
    grant: t.Grant
    settings: dict[str, Any]
    begun: int = -1

    def text(self, begun: int) -> str:
        said = asdict(self) | {"begun": begun}
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
            said["settings"],
            said["begun"],
        )  # fmt: skip

    def say_begun(self) -> None:
        """Tell the lender that the lease is in this process's own care. A lender that is gone hears nothing."""
        with contextlib.suppress(OSError):
            os.write(self.begun, b".")
            os.close(self.begun)


class Lent:
    """A transaction that is lent. `lost` is set where a renewal finds that it is another's."""

    def __init__(self, loan: Loan, lease: Lease, keeper: KeepsLeases) -> None:
        self.loan = loan
        self.lease = lease
        self.lost = asyncio.Event()
        self._keeper = keeper

    async def live(
        self, command: Sequence[str], starting: asyncio.Semaphore, draining: asyncio.Event, drain_s: float
    ) -> bool:
        """Run it in a process of its own, until that ends; told to drain, it hands over.

        A process that was lost holds the lease until that runs out: then another worker counts the crash.

        Args:
            starting: Held while the process starts.

        Returns:
            Whether a process was started. If not, the grant is as it was.

        Cancellation: the process is killed.
        """
        self._keeper.add(self.lease)
        try:
            with contextlib.ExitStack() as start:
                if not await self._turn(starting, draining):
                    return False
                start.callback(starting.release)
                await self._run(command, start.close, draining, drain_s)
        finally:
            self._keeper.remove(self.lease)
        return True

    async def _turn(self, starting: asyncio.Semaphore, draining: asyncio.Event) -> bool:
        """Take `starting`. False: it is told to leave, or lost, before it had its turn."""
        turn = asyncio.ensure_future(starting.acquire())
        others = asyncio.ensure_future(draining.wait()), asyncio.ensure_future(self.lost.wait())
        mine = False
        try:
            await asyncio.wait((turn, *others), return_when=asyncio.FIRST_COMPLETED)
            mine = turn.done() and not any(other.done() for other in others)
        finally:
            for other in (turn, *others):
                other.cancel()
            await asyncio.gather(turn, *others, return_exceptions=True)
            if not mine and not turn.cancelled():
                starting.release()
        return mine

    async def _run(
        self, command: Sequence[str], on_begun: Callable[[], None], draining: asyncio.Event, drain_s: float
    ) -> None:
        tx = self.loan.grant.tx
        log.warning("it runs in a process of its own: its workers were lost", tx=tx, crashes=self.loan.grant.crashes)
        async with _begun_pipe() as (heard, said):
            try:
                process = await _spawn(command, said)
            finally:
                os.close(said)  # the process has its own
            ended = asyncio.ensure_future(process.communicate(self.loan.text(said).encode()))
            try:
                await self._watch(process, ended, heard, on_begun, draining, drain_s)
            finally:
                if process.returncode is None and not ended.done():
                    process.kill()
                await asyncio.gather(ended, return_exceptions=True)
        if process.returncode:
            log.error("a process for one transaction was lost", tx=tx, status=process.returncode)

    async def _watch(
        self, process: asyncio.subprocess.Process, ended: asyncio.Future[Any], heard: asyncio.StreamReader,
        on_begun: Callable[[], None], draining: asyncio.Event, drain_s: float,
    ) -> None:  # fmt: skip
        """Until it has ended, or is to be killed."""
        begun = asyncio.ensure_future(heard.read(1))
        told, lost = asyncio.ensure_future(draining.wait()), asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait((ended, begun, told, lost), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            if begun.done() and begun.result():
                self._keeper.remove(self.lease)
                on_begun()
                await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
            elif begun.done():  # it closed its end: it is about to have ended
                await asyncio.wait((ended, told, lost), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            if told.done() and not ended.done():
                process.terminate()
                await asyncio.wait((ended,), timeout=drain_s + _STOP_S)
            elif not ended.done() and not lost.done():
                log.error("a process for one transaction didn't begin", tx=self.loan.grant.tx, within_s=START_S)
        finally:
            for task in (begun, told, lost):
                task.cancel()
            await asyncio.gather(begun, told, lost, return_exceptions=True)


async def _spawn(command: Sequence[str], said: int) -> asyncio.subprocess.Process:
    env = os.environ | {PARENT: str(os.getpid())}
    return await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, start_new_session=True, env=env, pass_fds=(said,)
    )


@contextlib.asynccontextmanager
async def _begun_pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """What is heard, and the descriptor to write to, which its user closes."""
    out, into = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out, "rb")
    )
    try:
        yield reader, into
    finally:
        transport.close()
