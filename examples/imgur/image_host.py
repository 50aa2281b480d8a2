"""A tiny image host, so that the example runs without internet: it draws a picture for every name it is asked for.

    python examples/imgur/image_host.py --port 8090
"""

import argparse
import hashlib
import re
import struct
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIDE = 160


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file (RFC 2083, 3.2)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(name: str) -> bytes:
    """A PNG, the same for the same name: five by five tiles, like in a mirror."""
    seed = hashlib.sha256(name.encode()).digest()
    ink, paper = bytes(channel // 2 for channel in seed[:3]), bytes((245, 245, 240))
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)
        for x in range(SIDE):
            column = min(x * 5 // SIDE, 4 - x * 5 // SIDE)
            rows += ink if seed[3 + column * 5 + y * 5 // SIDE] & 1 else paper
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


class Host(BaseHTTPRequestHandler):
    """Answers `/NAME.png`; all else is not found, and so is `/missing.png`."""

    def do_GET(self) -> None:
        found = re.fullmatch(r"/([A-Za-z0-9_-]+)\.png", self.path)
        if found is None or found[1] == "missing":
            self.send_error(404)
            return
        body = picture(found[1])
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one")
    with ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Host) as server:
        print(f"image host ready http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
