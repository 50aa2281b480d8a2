"""Download a file and hash it, chunk by chunk, whatever is killed meanwhile.

    orbit dev examples/download.py
    orbit start Download --input '{"url": "http://localhost:9000/big.iso"}' --follow

`run` begins again from its top after a crash. Two tools make that safe here: what must happen once has a name
(`step`), and the loop over the pieces is a durable one (`each`): a piece's step, field and update belong to one item,
and an item that was committed isn't done again.
"""

import hashlib
from typing import Any

import httpx

from orbit import State

CHUNK_BYTES = 1024 * 1024


def size_of(url: str) -> int:
    """How long the file is. Plain code runs in a thread: blocking is fine."""
    answer = httpx.head(url, follow_redirects=True).raise_for_status()
    return int(answer.headers["content-length"])


def hash_of(url: str, first: int, last: int) -> str:
    """The hash of one piece of the file. Reading it twice, after a crash, does no harm."""
    answer = httpx.get(url, headers={"Range": f"bytes={first}-{last}"}, follow_redirects=True).raise_for_status()
    return hashlib.sha256(answer.content).hexdigest()


class Download(State):
    """Reads `url` in pieces; sends one update for each."""

    url: str
    size: int = 0
    hashed: int = 0

    async def run(self) -> dict[str, int]:
        self.size = await self.transaction.step("size", size_of, self.url)
        await self.transaction.each("pieces", range(0, self.size, CHUNK_BYTES), self.piece)
        return {"bytes": self.hashed}

    async def piece(self, first: int) -> None:
        last = min(first + CHUNK_BYTES, self.size) - 1
        digest = await self.transaction.step("hash", hash_of, self.url, first, last)
        self.hashed = last + 1
        await self.transaction.send_update({"bytes": self.hashed, "of": self.size, "sha256": digest})

    def view(self) -> dict[str, Any]:
        return {"bytes": self.hashed, "of": self.size}
