"""nginx and HAProxy with the configurations of `deploy/`, as processes of a test that need no rights.

Each stands in front of two edges, `place` 0 and 1. `put` changes who stands at a place, in the way that
`docs/behind-a-load-balancer.md` tells for it.
"""

from __future__ import annotations

import asyncio
import csv
import os
import re
import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import Process, Stage, free_port
from tests.support.waiting import soon

DEPLOY = Path(__file__).parents[2] / "deploy"
NOBODY = 65534
SYSTEM_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
START_S = 60.0


class Balancer(ABC):
    """One in front of the edges at `edges` (host:port)."""

    program: str

    def __init__(self, stage: Stage, edges: list[str]) -> None:
        self.stage = stage
        self.edges = list(edges)
        self.folder = Path(tempfile.mkdtemp(prefix="orbit-balancer-"))
        if os.getuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self.listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.listen}"
        self.process: Process | None = None

    async def __aenter__(self) -> Balancer:
        self.write()
        code, said = await self.check()
        assert code == 0, said
        self.process = await self.spawn(*self.command())
        await soon(self.listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None:
            await self.process.kill()
        shutil.rmtree(self.folder)

    @abstractmethod
    def write(self) -> None:
        """Write what it is configured with."""

    @abstractmethod
    def command(self, *, check: bool = False) -> list[str]:
        """How it is started, or asked whether its configuration is right."""

    @abstractmethod
    async def put(self, place: int, edge: str | None) -> None:
        """Let `edge` stand at `place` (None: nobody new goes there)."""

    def logged(self) -> list[str]:
        """The requests that it logged."""
        assert self.process is not None
        return list(self.process.lines)

    async def check(self) -> tuple[int, str]:
        """What the program says of the configuration: its status and its words."""
        asked = await self.spawn(*self.command(check=True))
        code = await asked.wait()
        return code, asked.tail()

    async def spawn(self, *command: str) -> Process:
        path = shutil.which(command[0], path=SYSTEM_PATH)
        assert path, f"{command[0]} isn't installed"
        command = "env", f"--chdir={self.folder}", path, *command[1:]
        return await self.stage.spawn(self.program, *as_nobody(), *command, env=self.environment())

    def environment(self) -> Mapping[str, str]:
        first, second = self.edges
        return {
            "ORBIT_LISTEN": self.listen,
            "ORBIT_EDGE_1": first,
            "ORBIT_EDGE_2": second,
            "ORBIT_ACCESS_LOG": str(self.folder / "access.log"),
            "ORBIT_HAPROXY_SOCKET": str(self.folder / "socket"),
        }

    async def listening(self) -> bool:
        assert self.process is not None
        assert self.process.alive, self.process.tail()
        host, _, port = self.listen.partition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


class Nginx(Balancer):
    """Who stands where is written into its file, and the file read again."""

    program = "nginx"

    def write(self) -> None:
        text = (DEPLOY / "nginx" / "orbit.conf").read_text()
        filled = re.sub(r"\$\{(ORBIT_\w+)\}", lambda found: self.environment()[found[1]], text)
        (self.folder / "orbit.conf").write_text(filled)
        stores = "".join(
            f"    {kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"daemon off;\nworker_processes 2;\npid {self.folder}/pid;\nerror_log stderr notice;\n"
            f"events {{ worker_connections 1024; }}\nhttp {{\n{stores}    include {self.folder}/orbit.conf;\n}}\n"
        )

    def logged(self) -> list[str]:
        return (self.folder / "access.log").read_text().splitlines()

    def command(self, *, check: bool = False) -> list[str]:
        where = ["-p", str(self.folder), "-e", "stderr", "-c", str(self.folder / "nginx.conf")]
        return ["nginx", *where, *(["-t"] if check else [])]

    async def put(self, place: int, edge: str | None) -> None:
        self.edges[place] = edge or self.edges[1 - place]
        self.write()
        assert self.process is not None
        reloads = self._begun()
        self.process.signal(signal.SIGHUP)
        await soon(lambda: self._begun() >= reloads + 2)  # two new workers

    def _begun(self) -> int:
        assert self.process is not None
        return sum("start worker process " in line for line in self.process.lines)


class HAProxy(Balancer):
    """Who stands where is said over its runtime socket; whether an edge takes new connections, its /readyz says."""

    program = "haproxy"

    def write(self) -> None:
        """The shipped file as it is, where a process without rights can read it."""
        shutil.copyfile(DEPLOY / "haproxy" / "haproxy.cfg", self.folder / "haproxy.cfg")

    def command(self, *, check: bool = False) -> list[str]:
        return ["haproxy", *(["-c"] if check else ["-db"]), "-f", str(self.folder / "haproxy.cfg")]

    async def put(self, place: int, edge: str | None) -> None:
        if edge is None:
            return
        self.edges[place] = edge
        host, _, port = edge.partition(":")
        server = f"orbit/edge-{place + 1}"
        await self.say(f"set server {server} addr {host} port {port}")
        await soon(lambda: self.is_up(place, port))

    async def is_up(self, place: int, port: str) -> bool:
        """Whether it has found the edge at `place` ready, and that is the one on `port`."""
        rows = [row.split() for row in (await self.say("show servers state orbit")).splitlines()]
        row = next(row for row in rows if len(row) > 18 and row[3] == f"edge-{place + 1}")
        return row[5] == "2" and row[18] == port

    async def has_heard(self, place: int, code: str) -> bool:
        """Whether the newest look at /readyz of the edge at `place` was answered so, and the edge is out for it."""
        rows = csv.DictReader((await self.say("show stat")).splitlines())
        row = next(row for row in rows if (row["# pxname"], row["svname"]) == ("orbit", f"edge-{place + 1}"))
        return row["check_code"] == code and row["status"].startswith("DOWN")

    async def say(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "socket"))
        writer.write(command.encode() + b"\n")
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return answer


def as_nobody() -> list[str]:
    """What to put before a command so that it has no rights, where we have all."""
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
