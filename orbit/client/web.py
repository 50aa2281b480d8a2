"""The HTTP verbs of a `Client`: tried on one edge after the other while that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import httpx

from orbit.client.backoff import Backoff
from orbit.client.types import StateInfo, TransactionError, TransactionInfo
from orbit.errors import REQUEST_ERRORS, BadRequest, Internal, OutOfOrder, ProtocolError, RequestError, Unavailable
from orbit.protocol.json_codec import json_dumps, json_loads
from orbit.protocol.messages import Value
from orbit.protocol.values import check_value

TIMEOUT_S: Final = 10.0
_AGAIN = frozenset({"unavailable", "overloaded", "rate_limited"})
_CODES = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 409: "conflict", 410: "gone"}
_CODES |= {413: "too_large", 429: "rate_limited", 503: "unavailable"}


class Web:
    """Requests to any of several edges. What is asked here is safe to ask twice: by its nature, its id or its key.

    Args:
        headers: Asked for each request.
        patience_s: For how long an edge that can't be reached, or has no room now, is tried again.
        transport: What carries the requests, in place of the network.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        headers: Callable[[], dict[str, str]],
        patience_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._urls = list(urls)
        self._headers = headers
        self._patience_s = patience_s
        self._backoff = Backoff(max_s=2.0)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        *path: str,
        body: Value = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        wait_s: float = 0.0,
    ) -> tuple[int, Any]:
        """One request; the status and the answer's value.

        Args:
            path: The steps after `/v1`.
            key: An idempotency key.
            wait_s: How long the edge may take beyond the usual.

        Raises:
            RequestError: by the code of the answer. Unavailable: no edge answered in `patience_s`.
        """
        if body is not None:
            check_value(body, what="body")
        target = "/v1/" + "/".join(quote(step, safe="") for step in path)
        request: dict[str, Any] = {
            "params": {name: value for name, value in (query or {}).items() if value is not None},
            "headers": self._headers() | ({"Idempotency-Key": key} if key is not None else {}),
            "timeout": httpx.Timeout(TIMEOUT_S, read=TIMEOUT_S + wait_s),
        }
        if body is not None:
            request["content"] = json_dumps(body)
            request["headers"]["Content-Type"] = "application/json"
        return await self._insist(method, target, request)

    async def _insist(self, method: str, target: str, request: dict[str, Any]) -> tuple[int, Any]:
        loop = asyncio.get_running_loop()
        give_up_at, attempt = loop.time() + self._patience_s, 0
        while True:
            refusal = await self._once(method, target, request)
            if not isinstance(refusal, RequestError):
                return refusal
            wait_s = max(self._backoff.wait_s(attempt), (refusal.retry_after_ms or 0) / 1000)
            if refusal.code not in _AGAIN or loop.time() + wait_s > give_up_at:
                raise refusal
            attempt += 1
            await asyncio.sleep(wait_s)

    async def _once(self, method: str, target: str, request: dict[str, Any]) -> tuple[int, Any] | RequestError:
        url = self._urls[0]
        try:
            response = await self._http.request(method, url + target, **request)
        except httpx.InvalidURL as error:
            return BadRequest(f"{url}: {error}")
        except httpx.HTTPError as error:
            self._pass_by(url)
            return Unavailable(f"{url}: {error or type(error).__name__}")
        if response.is_success:
            return response.status_code, _value(response)
        if response.status_code == 503:
            self._pass_by(url)
        return _refusal(response)

    def _pass_by(self, url: str) -> None:
        """Ask the next edge, unless another request found out before."""
        if self._urls[0] == url:
            self._urls.append(self._urls.pop(0))


def read_field(answer: Any, name: str) -> Any:
    """A field that an answer must hold."""
    if not isinstance(answer, dict) or name not in answer:
        raise ProtocolError(f"the edge's answer has no {name}")
    return answer[name]


def read_transaction(raw: Any) -> TransactionInfo:
    """A transaction as the edges write it."""
    try:
        error = raw.get("error")
        return TransactionInfo(
            id=raw["id"],
            state=raw["state"],
            version=raw["version"],
            queue=raw["queue"],
            status=raw["status"],
            created_at=datetime.fromisoformat(raw["created_at"]),
            started_at=_moment(raw.get("started_at")),
            ended_at=_moment(raw.get("ended_at")),
            cursor=raw["cursor"],
            commit=raw["commit"],
            epoch=raw["epoch"],
            attempts=raw["attempts"],
            result=raw.get("result"),
            error=TransactionError(error["type"], error["message"]) if error else None,
            waiting_for=raw.get("waiting_for"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as flaw:
        raise ProtocolError(f"the edge's answer is no transaction: {type(flaw).__name__} {flaw}") from None


def read_state(raw: Any) -> StateInfo:
    """A State as the edges write it."""
    return StateInfo(*(read_field(raw, name) for name in ("name", "version", "queue", "workers", "schema")))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _value(response: httpx.Response) -> Any:
    try:
        return json_loads(response.content, what="the edge's answer") if response.content else None
    except BadRequest as error:
        raise ProtocolError(error.message) from None


def _refusal(response: httpx.Response) -> RequestError:
    try:
        told = json_loads(response.content)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (BadRequest, KeyError, TypeError):
        told, code, message = {}, "", f"{response.url}: HTTP {response.status_code}"
    code = code or _CODES.get(response.status_code, "unavailable" if response.status_code >= 500 else "bad_request")
    after = told.get("retry_after_ms")
    retry_after_ms = after if isinstance(after, int) else None
    if code == OutOfOrder.code:
        return OutOfOrder(message, last_mid=int(told.get("last_mid", 0)), retry_after_ms=retry_after_ms)
    return REQUEST_ERRORS.get(code, Internal)(message, retry_after_ms=retry_after_ms)
