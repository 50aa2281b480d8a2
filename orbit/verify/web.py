"""HTTP to a deployment whose edges come and go: what is asked is asked again until it is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

import httpx

ATTEMPT_S = 3.0
PAUSE_S = 0.2
PASSING = frozenset({429, 500, 502, 503, 504})


class NoAnswer(Exception):
    """No edge answered in all that time."""


class Web:
    """Requests to whichever edge answers."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = itertools.cycle(urls)
        self._http = httpx.AsyncClient(timeout=ATTEMPT_S, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, body: Any = None, *, within_s: float) -> tuple[int, Any]:
        """The status and the JSON of an answer that isn't a passing refusal.

        Raises:
            NoAnswer: There was none within that time.
        """
        deadline = time.monotonic() + within_s
        last = "nothing"
        while time.monotonic() < deadline:
            try:
                answer = await self._http.request(method, next(self._urls) + path, json=body)
                if answer.status_code not in PASSING:
                    return answer.status_code, answer.json()
                last = f"{answer.status_code} {answer.text[:200]}"
            except (httpx.HTTPError, ValueError) as error:
                last = f"{type(error).__name__}: {error}"
            await asyncio.sleep(PAUSE_S)
        raise NoAnswer(f"{method} {path}: no answer in {within_s:g} s, at last {last}")

    async def start(self, tx: str, state: str, fields: dict[str, Any], *, within_s: float) -> None:
        """Start a transaction under an id of our own, so that asking twice starts one.

        Raises:
            NoAnswer: It can't be started.
        """
        deadline = time.monotonic() + within_s
        while True:
            left_s = max(deadline - time.monotonic(), 0.1)
            body = {"id": tx, "state": state, "input": fields}
            status, answer = await self.ask("POST", "/v1/transactions", body, within_s=left_s)
            if status in (200, 201):
                return
            if time.monotonic() > deadline:
                raise NoAnswer(f"{state} can't be started: {status} {answer}")
            await asyncio.sleep(PAUSE_S)  # no worker has published it yet

    async def cancel(self, tx: str, *, within_s: float) -> None:
        """Cancel a transaction; returns once it is certain to happen, or once it is over or gone."""
        await self.ask("POST", f"/v1/transactions/{tx}/cancel", {}, within_s=within_s)
