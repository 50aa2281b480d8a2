"""Child processes of `orbit dev` and `orbit demo`: started, heard, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orbit.cli.failures import CommandError
from orbit.config import PARENT

ORBIT = (sys.executable, "-P", "-m", "orbit")
"""How this very Orbit is run: `-P` keeps a user's `orbit.py` in the current directory from taking its place."""

_READY = re.compile(r"orbit \w+ ready\b.*")
_URL = re.compile(r"https?://\S+")
_LONGEST_LINE = 64 * 1024


class Child:
    """A process that is started under a name, and again under the same name should it die.

    On Linux it is killed when this process dies, however that dies.

    Args:
        command: What is run; see `ORBIT`.
        hear: Called with each line that it prints on either stream.
        env: What its environment has beside this process's own.
    """

    def __init__(
        self, name: str, command: Sequence[str], hear: Callable[[str], None], env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.last_line = ""
        self._hear = hear
        self._env = dict(env or {})
        self._process: asyncio.subprocess.Process | None = None
        self._ready: asyncio.Future[str] | None = None
        self._life: asyncio.Task[int] | None = None

    @property
    def pid(self) -> int:
        """The process id of the newest start; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def was_ready(self) -> bool:
        """Whether the newest start said that it is ready."""
        return self._ready is not None and self._ready.done() and not self._ready.cancelled()

    async def start(self) -> None:
        """Start it; its output is heard from now on."""
        self.last_line = ""
        self._ready = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._env, PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a terminal's Ctrl-C is the parent's to hand on
        )
        self._life = asyncio.create_task(self._live(self._process, self._ready), name=f"child {self.name}")

    async def ready(self) -> str:
        """Wait until it said that it is ready; returns the line that says so.

        Raises:
            CommandError: It ended before that; the text is its own last line, the status its own.
        """
        assert self._ready is not None
        assert self._life is not None
        waited: list[asyncio.Future[Any]] = [self._ready, self._life]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            code = self._life.result()
            raise CommandError(
                self.last_line.removeprefix("orbit: ") or f"{self.name} {ending(code)} at its start", max(code, 1)
            )
        return self._ready.result()

    async def ended(self) -> int:
        """Wait until it has ended; returns its exit status, negative for a signal."""
        assert self._life is not None
        return await asyncio.shield(self._life)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, within_s: float) -> None:
        """SIGTERM, and SIGKILL to what is still there after `within_s`; returns when it is gone."""
        if self._life is None:
            return
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._life], timeout=within_s)
        if not done:
            self.signal(signal.SIGKILL)
            await asyncio.wait([self._life])

    async def _live(self, process: asyncio.subprocess.Process, ready: asyncio.Future[str]) -> int:
        assert process.stdout is not None
        hearing = asyncio.create_task(self._listen(process.stdout, ready))
        code = await process.wait()
        # A process of its own may hold the pipe for longer; what this one printed is there at once.
        await asyncio.wait([hearing], timeout=1.0)
        hearing.cancel()
        return code

    async def _listen(self, stream: asyncio.StreamReader, ready: asyncio.Future[str]) -> None:
        rest = b""
        while chunk := await stream.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._line(line.decode(errors="replace").rstrip(), ready)
        if rest:
            self._line(rest.decode(errors="replace").rstrip(), ready)

    def _line(self, line: str, ready: asyncio.Future[str]) -> None:
        if not line:
            return
        self.last_line = line
        if not ready.done() and _READY.match(line):
            ready.set_result(line)
        self._hear(line)


def url_in(line: str) -> str:
    """The URL that a ready line names."""
    match = _URL.search(line)
    if match is None:
        raise CommandError(f"no URL in {line!r}")
    return match[0]


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
