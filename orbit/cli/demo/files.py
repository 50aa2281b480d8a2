"""The file server of the demonstration, a process of its own: `python -m orbit.cli.demo.files PATH BYTES_PER_S`.

It serves one file by HTTP/1.1 with `Range`, no faster than it is told, so that there is something to watch.
"""

from __future__ import annotations

import asyncio
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from time import monotonic, sleep

from orbit.cli.life import live
from orbit.cli.output import note

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


CATCH_UP_S = 0.5
"""How much time that nobody used may be made good later."""


class Throttle:
    """Lets `bytes_per_s` through, whoever asks."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = Lock()
        self._free_at = monotonic()

    def wait(self, size: int) -> None:
        """Return when `size` more bytes have had their time."""
        with self._lock:
            self._free_at = max(self._free_at, monotonic() - CATCH_UP_S) + size / self._bytes_per_s
            until = self._free_at
        sleep(max(0.0, until - monotonic()))


def handler_of(file: Path, throttle: Throttle) -> type[BaseHTTPRequestHandler]:
    """A handler that serves `file`, and nothing else."""
    size = file.stat().st_size

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            found = self.path == f"/{file.name}"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(size if found else 0))
            self.end_headers()

        def do_GET(self) -> None:
            span = _RANGE.fullmatch(self.headers.get("Range", ""))
            first, last = (int(span[1]), min(int(span[2]), size - 1)) if span else (0, size - 1)
            if self.path != f"/{file.name}" or first > last:
                self.send_error(416 if span else 404)
                return
            with file.open("rb") as source:
                source.seek(first)
                body = source.read(last - first + 1)
            throttle.wait(len(body))
            self.send_response(206 if span else 200)
            self.send_header("Content-Length", str(len(body)))
            if span:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


async def serve(path: str, bytes_per_s: str, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    file = Path(path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(file, Throttle(float(bytes_per_s))))
    Thread(target=server.serve_forever, daemon=True).start()
    note(f"orbit files ready http://127.0.0.1:{server.server_address[1]}/{file.name}")
    await stop.wait()


if __name__ == "__main__":
    live(lambda stop: serve(sys.argv[1], sys.argv[2], stop))
