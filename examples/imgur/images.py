"""The State behind the page: it fetches one image from the image host and keeps it until somebody says "OK".

    IMAGE_HOST=http://127.0.0.1:8090 orbit worker examples/imgur/images.py --redis redis://localhost
"""

import os
from typing import Any

import httpx
from pydantic import Field

from orbit import Connection, State

IMAGE_HOST = os.environ.get("IMAGE_HOST", "http://127.0.0.1:8090")
"""Where images come from. A user names an image only, never a host: no one can make the worker fetch what he likes."""
KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
LARGEST_BYTES = 512 * 1024
"""An update and a step's result may have 1 MiB each."""


def fetch(name: str) -> dict[str, Any]:
    """The image. Plain code runs in a thread, so blocking is fine; done again after a crash, it does no harm."""
    got = b""
    with httpx.stream("GET", f"{IMAGE_HOST}/{name}", timeout=30) as answer:
        kind = answer.headers.get("content-type", "")
        if answer.status_code != 200 or kind not in KINDS:
            return {"error": "the image host has no such image"}
        for piece in answer.iter_bytes():
            got += piece
            if len(got) > LARGEST_BYTES:
                return {"error": "the image is too large"}
    return {"kind": kind, "bytes": got}


class ImageDownload(State, stays_open=True, retain_s=3600):
    """Fetches `name`, shows it to whoever is there or comes later, and is over with the first "OK"."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}\.(png|jpg|gif|webp)$")

    async def run(self) -> None:
        await self.transaction.send_update({"says": f"Fetching {self.name} ..."}, once="begun")
        image = await self.transaction.step("fetch", fetch, self.name)
        if "error" in image:
            await self.transaction.fail(image["error"])
        await self.transaction.send_update({"says": f"Here is {self.name}.", "image": image}, once="image")

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data != "OK":
            connection.reject('say "OK"')
        await self.transaction.finish(result="seen")
