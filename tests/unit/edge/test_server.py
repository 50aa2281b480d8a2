"""Where an edge may listen."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

import pytest

from orbit.edge.server import UNSENT_BYTES, CannotListen, listen, url_of


def test_port_0_takes_a_free_one_and_the_url_names_it() -> None:
    with listen("127.0.0.1", 0, insecure=False) as listener:
        port = listener.getsockname()[1]
        assert port
        assert url_of(listener, "127.0.0.1") == f"http://127.0.0.1:{port}"


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}: Address already in use; --port 0"):
            listen("127.0.0.1", port, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_others_can_reach_it_only_where_that_is_asked_for(host: str) -> None:
    with pytest.raises(CannotListen, match="--insecure"):
        listen(host, 0, insecure=False)


def test_insecure_lifts_that() -> None:
    listen("0.0.0.0", 0, insecure=True).close()


def test_loopback_names_are_fine() -> None:
    listen("localhost", 0, insecure=False).close()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(CannotListen, match="can't listen") as refused:
        listen("192.0.2.1", 0, insecure=True)
    assert "--port" not in str(refused.value)


def test_a_name_that_means_nothing() -> None:
    with pytest.raises(CannotListen, match=r"--host no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0, insecure=False)


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that takes megabytes")
def test_the_system_keeps_little_for_a_client_that_reads_nothing() -> None:
    with listen("127.0.0.1", 0, insecure=False) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while sent < 64 * UNSENT_BYTES:
                    sent += accepted.send(bytes(65_536))
    assert sent < 4 * UNSENT_BYTES
