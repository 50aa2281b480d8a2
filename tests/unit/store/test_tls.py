"""rediss://: with the right certificates it works, with wrong ones the start says what is wrong.

The wheel's server has no TLS: in front of it stands a port that has. Debian's has it itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orbit.errors import StoreUnusable
from orbit.protocol.ids import TxId
from orbit.store import types as t
from orbit.store.embedded import EmbeddedServer
from orbit.store.embedded.server import free_port
from orbit.store.store import Store
from orbit.store.subscriber import Subscriber
from tests.support.certificates import Certificates
from tests.support.programs import program
from tests.support.waiting import PATIENCE_S

TX = TxId("transaction-00000001")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.made_in(tmp_path)


@pytest.fixture
async def port(server: EmbeddedServer, certificates: Certificates) -> AsyncIterator[int]:
    async with tls_before(server, certificates, "127.0.0.1") as port:
        yield port


@asynccontextmanager
async def tls_before(server: EmbeddedServer, certificates: Certificates, host: str) -> AsyncIterator[int]:
    """A port with TLS that leads to the server."""
    speaking: set[asyncio.Task[None]] = set()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = server.url.removeprefix("unix://")
        own_reader, own_writer = await asyncio.open_unix_connection(path)
        for source, sink in ((reader, own_writer), (own_reader, writer)):
            task = asyncio.ensure_future(_copy(source, sink))
            speaking.add(task)
            task.add_done_callback(speaking.discard)

    made = await asyncio.start_server(speak, host, 0, ssl=certificates.server_context())
    async with made:
        yield made.sockets[0].getsockname()[1]
        for task in tuple(speaking):
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


async def works(url: str, settings: t.StoreSettings) -> None:
    store = await Store.open(url, settings)
    heard: asyncio.Queue[int] = asyncio.Queue()
    subscriber = Subscriber(store, on_live=lambda tx, message: heard.put_nowait(message.number))
    running = asyncio.ensure_future(subscriber.run())
    await store.start(t.NewTransaction(TX, "Demo", 1, "default", b"{}", "d", False, 100, 60.0))
    await subscriber.watch(TX)
    await store.cancel(TX, "why")
    async with asyncio.timeout(PATIENCE_S):
        assert await heard.get() == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def unusable(url: str, settings: t.StoreSettings) -> str:
    with pytest.raises(StoreUnusable) as caught:
        await Store.open(url, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_with_its_authority(port: int, certificates: Certificates, settings: t.StoreSettings, host: str) -> None:
    await works(f"rediss://{host}:{port}/0?ssl_ca_certs={certificates.ca}", settings)


async def test_with_an_authority_that_isn_t_known(port: int, settings: t.StoreSettings) -> None:
    text = await unusable(f"rediss://127.0.0.1:{port}", settings)
    assert "certificate" in text
    assert "ssl_ca_certs" in text


async def test_without_looking_at_certificates(port: int, settings: t.StoreSettings) -> None:
    await works(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none", settings)


async def test_at_a_name_that_isn_t_the_certificate_s(
    server: EmbeddedServer, certificates: Certificates, settings: t.StoreSettings
) -> None:
    async with tls_before(server, certificates, "127.0.0.2") as port:
        url = f"rediss://127.0.0.2:{port}?ssl_ca_certs={certificates.ca}"
        assert "certificate is not valid for '127.0.0.2'" in await unusable(url, settings)
        await works(f"{url}&ssl_check_hostname=false", settings)


async def test_a_file_that_isn_t_there(settings: t.StoreSettings) -> None:
    text = await unusable("rediss://127.0.0.1:1?ssl_ca_certs=/no/such/ca.pem", settings)
    assert "ssl_ca_certs: there is no file /no/such/ca.pem" in text


@pytest.mark.debian
async def test_a_server_that_wants_a_certificate_of_its_client_s(
    certificates: Certificates, settings: t.StoreSettings
) -> None:
    port = free_port()
    config = {
        "tls-port": str(port), "tls-ca-cert-file": str(certificates.ca), "tls-cert-file": str(certificates.server[0]),
        "tls-key-file": str(certificates.server[1]),
    }  # fmt: skip
    async with EmbeddedServer(tcp=True, config=config, program=program("redis")):
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.ca}"
        certificate, key = certificates.client
        await works(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}", settings)
