"""Real processes for tests and benchmarks: `python -m orbit ...` and servers, started, heard, never left behind.

    async with Stage(folder) as stage:
        server = await stage.embedded()
        edge = await stage.edge(server.url)
        worker = await stage.worker("states.py", server.url, "--lease-s", "2")
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from orbit.store.embedded import EmbeddedServer

READY = re.compile(r"orbit \w+ ready\b.*")
START_S = 60.0
"""How long a process may take until it says that it is ready."""
READ_S = 5.0
"""How long what it said last may take to be read, where a child of its own still holds its output open."""


class EndedEarly(Exception):
    """A process ended before it was ready. `code` is its exit status."""

    def __init__(self, process: Process, code: int) -> None:
        super().__init__(f"{process.name} exited with {code} before it was ready:\n{process.tail()}")
        self.code = code


class Process:
    """One process and what it printed. `lines` holds the newest lines of both streams; `said` those of stderr alone."""

    def __init__(
        self, name: str, command: list[str], env: Mapping[str, str], folder: Path, *, listens: bool = False
    ) -> None:
        self.name = name
        self.command = command
        self.lines: deque[str] = deque(maxlen=2000)
        self.said: deque[str] = deque(maxlen=2000)
        self.out: deque[str] = deque(maxlen=2000)
        self.ready_line = ""
        self._env = dict(env)
        self._folder = folder
        self._stdin = asyncio.subprocess.PIPE if listens else asyncio.subprocess.DEVNULL
        self._ready = asyncio.Event()
        self._heard = asyncio.Event()
        self._reading: list[asyncio.Task[None]] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=self._stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
            cwd=self._folder,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._reading = [
            asyncio.create_task(self._read(self.process.stdout, self.out)),
            asyncio.create_task(self._read(self.process.stderr, self.said)),
        ]

    async def _read(self, stream: asyncio.StreamReader, into: deque[str]) -> None:
        async for raw in _lines(stream):
            line = raw.decode(errors="replace").rstrip("\n")
            self.lines.append(line)
            into.append(line)
            self._heard.set()
            if READY.search(line):
                self.ready_line = line
                self._ready.set()

    async def ready(self) -> Process:
        """Wait for the line that says so. Raises EndedEarly."""
        ended = asyncio.create_task(self.wait())
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ended, ready}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            if not self._ready.is_set():
                if ended.done():
                    raise EndedEarly(self, ended.result())
                raise AssertionError(f"{self.name} wasn't ready in {START_S:.0f} s:\n{self.tail()}")
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
        return self

    def hear(self, line: str) -> None:
        """Type a line into it."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def says(self, text: str) -> str:
        """Wait until it has printed a line with `text`; returns that line."""
        async with asyncio.timeout(START_S):
            while True:
                self._heard.clear()
                found = next((line for line in self.lines if text in line), None)
                if found is not None:
                    return found
                await self._heard.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        """Where it listens, by its own word."""
        match = re.search(r"https?://[^\s/]+", "\n".join([self.ready_line, *self.said]))
        assert match, f"no URL in what {self.name} said:\n{self.tail()}"
        return match[0]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def tail(self, count: int = 40) -> str:
        """The last lines that it printed."""
        return "\n".join(f"  {self.name}| {line}" for line in list(self.lines)[-count:])

    def signal(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def wait(self) -> int:
        """Its exit status, once it has ended and all that it printed was read."""
        assert self.process is not None
        code = await self.process.wait()
        await asyncio.wait(self._reading, timeout=READ_S)
        return code

    async def kill(self) -> None:
        """SIGKILL to it and all of its own session; returns when it is gone."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.wait()
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    async def terminate(self) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    # ---- what the system says of it

    def rss_bytes(self) -> int:
        """Its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024

    def cpu_s(self) -> float:
        """The CPU time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _lines(stream: asyncio.StreamReader) -> Any:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than the reader's limit: the rest of it comes as lines of its own
            continue
        if not line:
            return
        yield line


class Stage:
    """A set of processes and servers that live as long as this context, whatever happens in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.http = httpx.AsyncClient(timeout=60, trust_env=False)
        self.edge_options: tuple[str, ...] = ()
        """Of every edge, before its own."""
        self._stack = contextlib.AsyncExitStack()
        self._count = 0

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(process.kill() for process in self.processes))
        await self.http.aclose()
        await self._stack.aclose()

    # ---- starting

    async def spawn(
        self, name: str, *command: str, env: Mapping[str, str] | None = None, listens: bool = False
    ) -> Process:
        """Start any command; returns at once. `listens`: it can be typed to."""
        self._count += 1
        base = {key: value for key, value in os.environ.items() if not key.startswith("ORBIT_")}
        base |= {"PYTHONUNBUFFERED": "1", "_ORBIT_PARENT": str(os.getpid())}
        process = Process(
            f"{name}{self._count}", list(command), base | dict(env or {}), self.folder, listens=listens
        )
        self.processes.append(process)
        await process.start()
        return process

    async def orbit(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `python -m orbit ...`; returns at once."""
        return await self.spawn(arguments[0], sys.executable, "-m", "orbit", *arguments, env=env)

    async def embedded(self, **options: Any) -> EmbeddedServer:
        """A private server, stopped with this stage."""
        return await self._stack.enter_async_context(EmbeddedServer(**options))

    async def debian(self) -> str:
        """Debian's redis-server on a free port; its URL."""
        program = shutil.which("redis-server")
        assert program, "redis-server isn't on the PATH"
        port = free_port()
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        process = await self.spawn("redis-server", program, *arguments)
        while not any("Ready to accept connections" in line for line in process.lines):
            assert process.alive, process.tail()
            await asyncio.sleep(0.02)
        return f"redis://127.0.0.1:{port}/0"

    async def worker(self, app: str | Path, redis: str, *options: str) -> Process:
        """A worker that is ready."""
        return await (await self.orbit("worker", str(app), "--redis", redis, *options)).ready()

    async def edge(self, redis: str, *options: str) -> Process:
        """An edge on a free port that is ready."""
        return await (await self.orbit("edge", "--redis", redis, "--port", "0", *self.edge_options, *options)).ready()

    async def dev(self, app: str | Path, *options: str) -> Process:
        """`orbit dev` on a free port, ready."""
        return await (await self.orbit("dev", str(app), "--port", "0", *options)).ready()

    # ---- speaking to an edge

    async def start(self, edge: str, state: str, **input_fields: Any) -> str:
        """Start a transaction; its id."""
        answer = await self.http.post(f"{edge}/v1/transactions", json={"state": state, "input": input_fields})
        assert answer.status_code == 201, f"{answer.status_code}: {answer.text}"
        return str(answer.json()["id"])

    async def show(self, edge: str, tx: str) -> dict[str, Any]:
        """The transaction as the edge describes it."""
        answer = await self.http.get(f"{edge}/v1/transactions/{tx}")
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return dict(answer.json())

    async def metric(self, url: str, name: str, **labels: str) -> float:
        """One number of a process's /metrics."""
        text = (await self.http.get(f"{url}/metrics")).text
        inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        full = f"{name}{{{inside}}}" if inside else name
        for line in text.splitlines():
            if line.startswith(full + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no {full} in\n{text}")

    def tails(self) -> str:
        """What every process printed last."""
        return "\n".join(process.tail() for process in self.processes if process.lines)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
