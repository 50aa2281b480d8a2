"""Keys: a JWK Set (RFC 7517) as values, tokens (RFC 7519) judged and signed by them. PyJWT does the cryptography."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm

from orbit.errors import OrbitError, Unauthorized

log = logging.getLogger("orbit.edge.access")

ALGORITHMS: Final = ("EdDSA", "ES256", "HS256")
SECRET_BYTES: Final = 32
"""The least that HS256 needs (RFC 7518, 3.2)."""
TOKEN_CHARACTERS: Final = 8192
"""No header's line is longer than that anyway."""

_KINDS: Final = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("oct", None): "HS256"}


class KeysUnusable(OrbitError):
    """This isn't a JWK Set that tokens can be judged by; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, used with its own algorithm alone.

    `secret`: None where it is a public key, which can't sign. `mark`: tells it from all others, whatever its `kid`.
    """

    alg: str
    kid: str | None
    verifier: Any = field(repr=False)
    secret: Any = field(repr=False)
    mark: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one JWK Set, in its order."""

    keys: tuple[Key, ...]

    @property
    def signer(self) -> Key | None:
        """The first key that can sign."""
        return next((key for key in self.keys if key.secret is not None), None)

    def holds(self, mark: str) -> bool:
        """Whether the key with this mark is one of them."""
        return any(key.mark == mark for key in self.keys)

    def verify(self, token: str) -> tuple[dict[str, Any], str]:
        """The claims of `token`, if a key of this set signed it, and that key's mark. They are not judged yet.

        Raises:
            Unauthorized: No key did.
        """
        if len(token) > TOKEN_CHARACTERS:
            raise Unauthorized("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            key = self._chosen(header)
            claims = jwt.decode(token, key.verifier, algorithms=[key.alg], options=_SIGNATURE_ALONE)
        except Unauthorized:
            raise
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Whatever is wrong with it, the bearer is told no more than that.
            raise Unauthorized("the token isn't valid") from None
        return claims, key.mark

    def _chosen(self, header: dict[str, Any]) -> Key:
        """The key that the token says it was signed with."""
        kid = header.get("kid")
        found = [key for key in self.keys if key.kid == kid] if kid is not None else list(self.keys)
        if len(found) != 1:
            raise Unauthorized("the token's kid names none of the keys" if kid is not None else "the token has no kid")
        if header.get("alg") != found[0].alg:
            raise Unauthorized("the token's alg isn't its key's")
        if "crit" in header or header.get("b64", True) is not True:
            raise Unauthorized("the token's header asks for what isn't understood")
        return found[0]

    def sign(self, claims: dict[str, Any]) -> str | None:
        """A token with these claims, by the first key that can sign; None where there is none."""
        key = self.signer
        if key is None:
            return None
        return jwt.encode(claims, key.secret, algorithm=key.alg, headers=None if key.kid is None else {"kid": key.kid})


_SIGNATURE_ALONE: Final[Any] = {
    "verify_signature": True, "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False,
    "verify_iss": False, "verify_sub": False, "verify_jti": False,
}  # fmt: skip


# ---- reading


def read_keys(text: bytes) -> KeySet:
    """The keys of a JWK Set. Those of kinds that aren't used here are passed over (RFC 7517, 5).

    Raises:
        KeysUnusable: It is none, a key is broken, or there is none that can be used.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise KeysUnusable("it isn't JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise KeysUnusable('it isn\'t a JWK Set: {"keys": [...]}')
    keys = tuple(key for n, jwk in enumerate(listed, 1) if (key := _read_key(jwk, n)) is not None)
    if not keys:
        raise KeysUnusable(f"it holds no key for {', '.join(ALGORITHMS)}")
    kids = [key.kid for key in keys]
    if len(set(kids)) != len(kids):
        raise KeysUnusable("two of its keys have the same kid, or none")
    return KeySet(keys)


def _read_key(jwk: dict[str, Any], n: int) -> Key | None:
    kty, crv, kid = jwk.get("kty"), jwk.get("crv"), jwk.get("kid")
    if not isinstance(kty, str) or not isinstance(crv, str | None):
        raise KeysUnusable(f"key {n} has no kty")
    if kid is not None and not isinstance(kid, str):
        raise KeysUnusable(f"the kid of key {n} isn't text")
    alg = _KINDS.get((kty, crv))
    if alg is None or jwk.get("use", "sig") != "sig" or jwk.get("alg", alg) not in ALGORITHMS:
        log.info("key %d of the JWK Set isn't for %s: passed over", n, ", ".join(ALGORITHMS))
        return None
    if jwk.get("alg", alg) != alg:
        raise KeysUnusable(f"key {n} is no key for {jwk['alg']}")
    try:
        return _made(alg, kid, jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, binascii.Error) as error:
        reason = error if isinstance(error, _TooShort) else "broken"
        raise KeysUnusable(f"key {n} ({alg}) is {reason}") from None


class _TooShort(ValueError):
    pass


def _made(alg: str, kid: str | None, jwk: dict[str, Any]) -> Key:
    if alg == "HS256":
        secret = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(HMACAlgorithm.from_jwk(jwk))
        if len(secret) < SECRET_BYTES:
            raise _TooShort(f"too short: {len(secret)} bytes; it needs {SECRET_BYTES}")
        return Key(alg, kid, secret, secret, _mark(alg, secret))
    read: Any = OKPAlgorithm.from_jwk(jwk) if alg == "EdDSA" else ECAlgorithm.from_jwk(jwk)
    private = read if isinstance(read, Ed25519PrivateKey | EllipticCurvePrivateKey) else None
    public = read if private is None else private.public_key()
    material = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(alg, kid, public, private, _mark(alg, material))


def _mark(alg: str, material: bytes) -> str:
    return hashlib.sha256(alg.encode() + material).hexdigest()


# ---- making


def new_key(alg: str) -> dict[str, Any]:
    """A new private key, as a JWK."""
    jwk: dict[str, Any]
    match alg:
        case "HS256":
            jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()}
        case "EdDSA":
            jwk = dict(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True))
        case "ES256":
            from cryptography.hazmat.primitives.asymmetric import ec

            jwk = dict(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True))
        case _:
            raise KeysUnusable(f"alg is one of {', '.join(ALGORITHMS)}")
    jwk.pop("key_ops", None)
    return {"kid": secrets.token_urlsafe(8), "use": "sig", "alg": alg, **jwk}


def public_half(text: bytes) -> dict[str, Any]:
    """The JWK Set without what signs, for an edge that only verifies.

    Raises:
        KeysUnusable: It is no JWK Set, or holds a shared secret, which has no public half.
    """
    read_keys(text)
    listed = json.loads(text)["keys"]
    if any(jwk["kty"] == "oct" for jwk in listed):
        raise KeysUnusable("a key for HS256 is a secret: it has no public half")
    return {"keys": [{name: jwk[name] for name in _PUBLIC if name in jwk} for jwk in listed if jwk["kty"] != "RSA"]}


_PUBLIC: Final = ("kid", "use", "alg", "kty", "crv", "x", "y")
