"""The job of the demonstration: download a file by HTTP in chunks, hash each, and say so."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import httpx

from orbit import State


class Download(State, name="Download"):
    """Downloads `url` into `target`, one chunk and one update at a time.

    `run` begins again from its top whenever a worker is lost, on the fields of the last commit. So it loops on a field,
    `chunk`, which it advances in the turn that sends: whatever is killed, the next worker goes on with the very chunk
    whose update nobody has seen. A chunk that was written but not committed is written once more, at the same place.
    """

    url: str
    size: int
    chunk_bytes: int
    target: str
    chunk: int = 0

    async def run(self) -> dict[str, Any]:
        chunks = -(-self.size // self.chunk_bytes)
        async with httpx.AsyncClient(timeout=10) as http:
            while self.chunk < chunks:
                first = self.chunk * self.chunk_bytes
                body = await self._fetch(http, first, min(first + self.chunk_bytes, self.size) - 1)
                write_at(self.target, first, body)
                self.chunk += 1
                digest = hashlib.sha256(body).hexdigest()
                await self.transaction.send_update(
                    {"chunk": self.chunk, "of": chunks, "bytes": len(body), "sha256": digest}
                )
        digest = await self.transaction.step("hash the file", hash_file, self.target)
        return {"chunks": self.chunk, "sha256": digest}

    async def _fetch(self, http: httpx.AsyncClient, first: int, last: int) -> bytes:
        answer = await http.get(self.url, headers={"Range": f"bytes={first}-{last}"})
        answer.raise_for_status()
        if len(answer.content) != last - first + 1:
            raise OSError(f"asked for bytes {first} to {last}, got {len(answer.content)} bytes")
        return answer.content

    def view(self) -> dict[str, Any]:
        return {"chunk": self.chunk}


def write_at(path: str, offset: int, body: bytes) -> None:
    """Write `body` at `offset`. Doing it twice is doing it once."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, body, offset)
    finally:
        os.close(file)


def hash_file(path: str) -> str:
    """The SHA-256 of a whole file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
