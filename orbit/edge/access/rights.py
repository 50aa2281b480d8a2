"""What a token allows, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, Literal, get_args

from orbit.errors import Unauthorized

Verb = Literal["watch", "send", "start", "cancel", "list"]
VERBS: Final[frozenset[str]] = frozenset(get_args(Verb))
OF_ONE: Final = ("watch", "send", "cancel")
"""The verbs that are about one transaction."""
TEXT_CHARACTERS = 255
"""The most that a subject may have."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What the bearer of a token may do.

    Attributes:
        sub: Who it is; None where the token doesn't say.
        exp: Until when, in seconds since 1970; None: for ever.
        tx: The ids that it is about; None: all.
        can: The verbs. A word that this version doesn't know allows nothing.
        key: The mark of the key that says so; None where none is needed.
    """

    sub: str | None
    exp: float | None
    tx: frozenset[str] | None
    can: frozenset[str]
    key: str | None = field(default=None, repr=False, compare=False)

    def may(self, verb: Verb, tx: str | None = None) -> bool:
        """Whether `verb` is allowed, to the transaction `tx` where one is given."""
        return verb in self.can and (tx is None or self.tx is None or tx in self.tx)

    def expired(self, now: float) -> bool:
        return self.exp is not None and now >= self.exp


OPEN: Final = Rights(None, None, None, VERBS)
"""Where no tokens are in force: everything."""


def read_rights(claims: dict[str, Any], now: float, audience: str | None = None) -> Rights:
    """The rights that the claims of a verified token give at `now`.

    Args:
        audience: `aud` must name it; None: `aud` isn't looked at.

    Raises:
        Unauthorized: It has expired, isn't valid yet, is for another audience, or a claim is malformed.
    """
    exp = _time(claims, "exp")
    if exp is None:
        raise Unauthorized("the token has no exp")
    if now >= exp:
        raise Unauthorized("the token has expired")
    not_before = _time(claims, "nbf")
    if not_before is not None and now < not_before:
        raise Unauthorized("the token isn't valid yet")
    if audience is not None and audience not in _texts(claims, "aud"):
        raise Unauthorized("the token is for another audience")
    can = claims.get("can", [])
    if not isinstance(can, list):
        raise Unauthorized("the token's can must be a list")
    tx = None if claims.get("tx") == "*" else _texts(claims, "tx")
    return Rights(_subject(claims), exp, tx, _texts(claims, "can"))


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or abs(value) > 1e15:
        raise Unauthorized(f"the token's {name} must be a number of seconds")
    return float(value)


def _texts(claims: dict[str, Any], name: str) -> frozenset[str]:
    """A text or a list of texts; none where the claim is missing."""
    value = claims.get(name, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Unauthorized(f"the token's {name} must be text, or a list of texts")
    return frozenset(texts)


def _subject(claims: dict[str, Any]) -> str | None:
    sub = claims.get("sub")
    if sub is None or sub == "":
        return None
    if not isinstance(sub, str) or len(sub) > TEXT_CHARACTERS or not _encodes(sub):
        raise Unauthorized(f"the token's sub must be text of at most {TEXT_CHARACTERS} characters")
    return sub


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
