"""The processes of the demonstration: a file server, an embedded Redis, two workers, two edges."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from orbit.cli.children import ORBIT, Child, url_in
from orbit.cli.demo.checks import Job, job_of
from orbit.cli.failures import CommandError
from orbit.protocol.entries import ENDED
from orbit.protocol.ids import TxId
from orbit.store.embedded import EmbeddedServer
from orbit.store.store import Store
from orbit.store.types import StoreSettings

_ASK_AGAIN_S = 0.05
LEASE_S = 2.0
DURATION_S = 8.0
"""How long the download takes when nothing is killed: the file server gives no more than that."""
CHUNKS = 240
LEAST_CHUNK_BYTES = 16 * 1024
STATE = "orbit.cli.demo.state:Download"


class Scene:
    """Everything that runs, for as long as `async with` holds it. What is printed goes to files in `directory`."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.chunk_bytes = max(LEAST_CHUNK_BYTES, -(-size_bytes // CHUNKS))
        self.urls: list[str] = []
        self.redis = ""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _build(self) -> None:
        self.directory = Path(self._stack.enter_context(TemporaryDirectory(prefix="orbit-demo-")))
        file = self.directory / "source.bin"
        self.job = await asyncio.to_thread(self._make_file, file)
        self.redis = (await self._stack.enter_async_context(EmbeddedServer())).url
        rate = self.size_bytes / DURATION_S
        self.files = self._child("files", [sys.executable, "-P", "-m", "orbit.cli.demo.files", str(file), str(rate)])
        self.workers = [
            self._child(f"worker {n}", [*ORBIT, "worker", STATE, "--lease-s", str(LEASE_S)]) for n in (1, 2)
        ]
        self.edges = [self._child(f"edge {n}", [*ORBIT, "edge", "--host", "127.0.0.1", "--port", "0"]) for n in (1, 2)]
        children = [self.files, *self.workers, *self.edges]
        self._stack.push_async_callback(self._stop, children)
        await asyncio.gather(*(child.start() for child in children))
        ready = await asyncio.gather(*(child.ready() for child in children))
        self.file_url = url_in(ready[0])
        self.urls = [url_in(line) for line in ready[-2:]]
        self.store = await Store.open(self.redis, StoreSettings())
        self._stack.push_async_callback(self.store.close)

    def _make_file(self, file: Path) -> Job:
        with file.open("wb") as target:
            for first in range(0, self.size_bytes, self.chunk_bytes):
                target.write(secrets.token_bytes(min(self.chunk_bytes, self.size_bytes - first)))
        return job_of(file, self.chunk_bytes)

    def _child(self, name: str, command: list[str]) -> Child:
        log = self.log_of(name).open("a", buffering=1)
        self._stack.callback(log.close)
        return Child(
            name,
            command,
            lambda line: print(line, file=log),
            {"ORBIT_REDIS": self.redis, "ORBIT_LOG_FORMAT": "console"},
        )

    def log_of(self, name: str) -> Path:
        """Where a process's output is kept."""
        return self.directory / f"{name.replace(' ', '-')}.log"

    @property
    def input(self) -> dict[str, str | int]:
        """What the job starts with."""
        target = str(self.directory / "download.bin")
        return {"url": self.file_url, "size": self.size_bytes, "chunk_bytes": self.chunk_bytes, "target": target}

    async def owner_of(self, tx: str) -> Child:
        """The worker process that runs the transaction; where it is between two workers, the next one."""
        while True:
            found = await self.store.get(TxId(tx))
            if found is None or found.status in ENDED:
                raise CommandError(f"nobody runs {tx} now: {found.status if found else 'it is gone'}")
            for worker in self.workers:
                if found.owner and found.owner in await worker.ready():
                    return worker
            await asyncio.sleep(_ASK_AGAIN_S)

    @property
    def live_edge(self) -> str:
        """An edge that was left alive."""
        return next(url for url, edge in zip(self.urls, self.edges, strict=True) if edge.alive)

    def edge_name(self, url: str) -> str:
        """What the edge at `url` is called here."""
        return f"edge {self.urls.index(url) + 1}"

    async def kill(self, child: Child) -> int:
        """SIGKILL: no goodbye, no clean-up. Returns the process id that it had, once it is gone."""
        pid = child.pid
        os.kill(pid, signal.SIGKILL)
        await child.ended()
        return pid

    async def _stop(self, children: list[Child]) -> None:
        await asyncio.gather(*(child.stop(3.0) for child in children))
