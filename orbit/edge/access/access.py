"""What the doors of an edge ask: who is this, and may it do that?

    rights = access.of_header(authorization)          # or of_token(text); Unauthorized
    access.demand(rights, "watch", tx)                # Unauthorized, Forbidden
    expiry = access.at_expiry(rights, self.on_expiry) # and expiry.cancel()

Where no keys are configured no token is looked at, and everything is allowed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orbit.edge.access.keyfile import KeyFile
from orbit.edge.access.rights import OF_ONE, OPEN, Rights, Verb, read_rights
from orbit.errors import Forbidden, Unauthorized

LONGEST_S = 3600.0
"""A wait for an expiry looks at the clock again after so long: clocks are set, machines sleep."""
FOR_EVER_S = 10 * 365 * 86_400.0
EXPIRED = "the token has expired"
WITHDRAWN = "the token's key isn't in force any more"


class Access:
    """The tokens of one edge.

    Args:
        keys: What tokens are judged by; None: none are in force.
        audience: What `aud` must name; None: anything.
        clock: Seconds since 1970.
    """

    def __init__(
        self, keys: KeyFile | None = None, audience: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = keys
        self._seen = None if keys is None else keys.keys()
        self._audience = audience
        self._clock = clock

    @property
    def in_force(self) -> bool:
        """Whether tokens are needed."""
        return self._file is not None

    # ---- who is this?

    def of_token(self, token: str | None) -> Rights:
        """The rights that a token gives now.

        Raises:
            Unauthorized: There is none, or it isn't valid.
        """
        if self._file is None:
            return OPEN
        if token is None:
            raise Unauthorized("a token is needed")
        claims, key = self._file.keys().verify(token)
        return replace(read_rights(claims, self._clock(), self._audience), key=key)

    def of_header(self, authorization: str | None, query_token: str | None = None) -> Rights:
        """The rights of a request, by its `Authorization` header.

        Args:
            query_token: The value of `?token=`, where this door takes one. The header goes before it.

        Raises:
            Unauthorized: as `of_token`.
        """
        if self._file is None:
            return OPEN
        return self.of_token(query_token if authorization is None else bearer(authorization))

    def of_handshake(self, authorization: str | None) -> Rights | None:
        """The rights of a WebSocket's handshake, the default of its attaches; None: it brought no token.

        Raises:
            Unauthorized: It brought one that isn't valid.
        """
        if self._file is None:
            return OPEN
        return None if authorization is None else self.of_token(bearer(authorization))

    # ---- may it?

    def demand(self, rights: Rights | None, verb: Verb, tx: str | None = None) -> Rights:
        """Return `rights` where they allow `verb` (to `tx`) now.

        Raises:
            Unauthorized: There are none, or they have expired.
            Forbidden: They don't allow it.
        """
        if rights is None:
            raise Unauthorized("a token is needed, in the attach or in the handshake's Authorization header")
        if rights.expired(self._clock()):
            raise Unauthorized(EXPIRED)
        if not self.stands(rights):
            raise Unauthorized(WITHDRAWN)
        if not rights.may(verb, tx):
            raise Forbidden(f"the token doesn't allow: {verb}" + ("" if tx is None else " this transaction"))
        return rights

    # ---- until when?

    def stands(self, rights: Rights) -> bool:
        """Whether the key that signed them is in force still."""
        return self._file is None or rights.key is None or self._file.keys().holds(rights.key)

    def keys_changed(self) -> bool:
        """Whether the keys are others than at the last call."""
        before, self._seen = self._seen, None if self._file is None else self._file.keys()
        return self._seen is not before

    def left_s(self, rights: Rights) -> float:
        """How long `rights` hold still."""
        return FOR_EVER_S if rights.exp is None else max(rights.exp - self._clock(), 0.0)

    def at_expiry(self, rights: Rights, then: Callable[[], None]) -> Expiry | None:
        """Call `then` when `rights` expire, unless it is cancelled before; None where they never do."""
        return None if rights.exp is None else Expiry(lambda: self.left_s(rights), then)

    # ---- new ones

    def sign(self, rights: Rights, tx: str, can: tuple[str, ...] = OF_ONE) -> str | None:
        """A token to do `can` with `tx`, for the subject and as long as `rights`; None where this edge can't sign."""
        if self._file is None or rights.exp is None:
            return None
        return self._file.keys().sign(claims_of(rights.sub, rights.exp, tx, can, self._audience))


class Expiry:
    """A wait for the end of some rights."""

    def __init__(self, left_s: Callable[[], float], then: Callable[[], None]) -> None:
        self._left_s = left_s
        self._then = then
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(min(left_s(), LONGEST_S), self._look)

    def cancel(self) -> None:
        self._timer.cancel()

    def now(self) -> None:
        """They end before their time."""
        self._timer.cancel()
        self._then()

    def _look(self) -> None:
        left_s = self._left_s()
        if left_s > 0:
            self._timer = self._loop.call_later(min(left_s, LONGEST_S), self._look)
        else:
            self._then()


def bearer(authorization: str) -> str:
    """The token of an `Authorization` header (RFC 6750, 2.1).

    Raises:
        Unauthorized: It holds none.
    """
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("Authorization must be: Bearer <token>")
    return token.strip()


def claims_of(
    sub: str | None, exp: float, tx: str | list[str], can: tuple[str, ...], audience: str | None
) -> dict[str, Any]:
    """The claims of a new token."""
    claims: dict[str, Any] = {"exp": int(exp), "tx": tx, "can": list(can)}
    if sub is not None:
        claims["sub"] = sub
    if audience is not None:
        claims["aud"] = audience
    return claims
