"""Tokens: every algorithm with every fault, and the file that the keys are in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jwt
import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from websockets.datastructures import Headers
from websockets.http11 import Request

from orbit.edge.access import OPEN, Access
from orbit.edge.access.access import bearer
from orbit.edge.access.keyfile import LOOK_S, KeyFile
from orbit.edge.access.keys import ALGORITHMS, KeysUnusable, new_key, public_half, read_keys
from orbit.edge.access.rights import Rights
from orbit.edge.handshake import rights_of
from orbit.errors import Forbidden, Unauthorized
from tests.support.waiting import PATIENCE_S

NOW = 1_000_000.0
TX, OTHER = "t" * 16, "o" * 16
GOOD: dict[str, Any] = {"exp": NOW + 60, "sub": "ann", "tx": TX, "can": ["watch", "send"]}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def private(jwk: dict[str, Any]) -> Any:
    """The key of a JWK, as another library's user would load it."""
    if jwk["kty"] == "oct":
        return base64.urlsafe_b64decode(jwk["k"] + "==")
    return (OKPAlgorithm if jwk["kty"] == "OKP" else ECAlgorithm).from_jwk(jwk)


def token(key: dict[str, Any], claims: dict[str, Any] | None = None, /, **header: Any) -> str:
    """A token made without the code that is tested. `kid=None`: without."""
    headers = {"kid": key["kid"], **header}
    if headers["kid"] is None:
        del headers["kid"]
    return jwt.encode(GOOD if claims is None else claims, private(key), algorithm=key["alg"], headers=headers)


def raw(header: dict[str, Any], claims: object, secret: bytes | None = None) -> str:
    """A token put together by hand; HS256, where there is a secret."""
    head = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    signature = b"" if secret is None else hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{b64(signature)}"


def pem(jwk: dict[str, Any]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = private(jwk).public_key()
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


class Bench:
    """A key file, and clocks that stand."""

    def __init__(self, directory: Path, *jwks: dict[str, Any], audience: str | None = None) -> None:
        self.path = directory / "keys.json"
        self.wall, self.ticks = NOW, 0.0
        self.put(*jwks)
        self.file = KeyFile(self.path, clock=lambda: self.ticks)
        self.access = Access(self.file, audience, clock=lambda: self.wall)

    def put(self, *jwks: dict[str, Any]) -> None:
        self.write(json.dumps({"keys": jwks}))

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(self.path)


KEYS = {alg: new_key(alg) for alg in ALGORITHMS}
STRANGERS = {alg: {**new_key(alg), "kid": KEYS[alg]["kid"]} for alg in ALGORITHMS}


@pytest.fixture(params=ALGORITHMS)
def alg(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, *KEYS.values())


# ---- algorithm x fault


def test_a_good_one(bench: Bench, alg: str) -> None:
    rights = bench.access.of_header("Bearer " + token(KEYS[alg]))
    assert rights == Rights("ann", NOW + 60, frozenset({TX}), frozenset({"watch", "send"}))
    assert bench.access.demand(rights, "watch", TX) is rights


CLAIMS: dict[str, Any] = {
    "expired": {**GOOD, "exp": NOW},
    "no exp": {"sub": "ann", "tx": TX, "can": ["watch"]},
    "exp is text": {**GOOD, "exp": str(NOW + 60)},
    "exp is true": {**GOOD, "exp": True},
    "exp is infinite": {**GOOD, "exp": float("inf")},
    "exp isn't a number": {**GOOD, "exp": float("nan")},
    "not yet valid": {**GOOD, "nbf": NOW + 1},
    "nbf is text": {**GOOD, "nbf": "now"},
    "tx is a number": {**GOOD, "tx": 7},
    "tx is an object": {**GOOD, "tx": {TX: True}},
    "tx holds a number": {**GOOD, "tx": [TX, 7]},
    "can is text": {**GOOD, "can": "watch"},
    "can holds null": {**GOOD, "can": ["watch", None]},
    "sub is a number": {**GOOD, "sub": 7},
    "sub is long": {**GOOD, "sub": "a" * 256},
    "sub is half a character": {**GOOD, "sub": "\ud800"},
}


@pytest.mark.parametrize("fault", CLAIMS)
def test_bad_claims(bench: Bench, alg: str, fault: str) -> None:
    with pytest.raises(Unauthorized):
        bench.access.of_token(token(KEYS[alg], CLAIMS[fault]))


@pytest.mark.parametrize("claims", [[], "text", 7, None])
def test_claims_that_are_no_object(bench: Bench, claims: object) -> None:
    key = KEYS["HS256"]
    with pytest.raises(Unauthorized):
        bench.access.of_token(raw({"alg": "HS256", "kid": key["kid"]}, claims, private(key)))


@pytest.mark.parametrize("text", ["[" * 4000 + "]" * 4000, '{"exp": ' + "9" * 5000 + "}"], ids=["deep", "digits"])
def test_claims_that_break_parsers(bench: Bench, text: str) -> None:
    key = KEYS["HS256"]
    head = b64(json.dumps({"alg": "HS256", "kid": key["kid"]}).encode()) + "." + b64(text.encode())[:7900]
    signature = b64(hmac.new(private(key), head.encode(), hashlib.sha256).digest())
    with pytest.raises(Unauthorized):
        bench.access.of_token(f"{head}.{signature}")


FORGED = {
    "of another key": lambda key: token(STRANGERS[key["alg"]]),
    "unknown kid": lambda key: token(key, kid="unknown"),
    "no kid among several": lambda key: token(key, kid=None),
    "kid is a number": lambda key: raw({"alg": key["alg"], "kid": 7}, GOOD),
    "none": lambda key: raw({"alg": "none", "kid": key["kid"]}, GOOD),
    "None": lambda key: raw({"alg": "None", "kid": key["kid"]}, GOOD),
    "none without kid": lambda key: raw({"alg": "none"}, GOOD),
    "no alg": lambda key: raw({"kid": key["kid"]}, GOOD),
    "alg is a list": lambda key: raw({"alg": [key["alg"]], "kid": key["kid"]}, GOOD),
    "crit": lambda key: token(key, crit=["exp"]),
    "no signature": lambda key: token(key).rpartition(".")[0] + ".",
    "half": lambda key: token(key).rpartition(".")[0],
    "changed claims": lambda key: ".".join(
        [token(key).split(".")[0], b64(json.dumps({**GOOD, "tx": "*"}).encode()), token(key).split(".")[2]]
    ),
    "empty": lambda _key: "",
    "dots": lambda _key: "..",
    "not ASCII": lambda key: token(key) + "ü",
    "too long": lambda key: token(key, {**GOOD, "x": "x" * 9000}),
    "key in the header": lambda key: token(STRANGERS[key["alg"]], jwk=STRANGERS[key["alg"]], kid=None),
}


@pytest.mark.parametrize("fault", FORGED)
def test_forged(bench: Bench, alg: str, fault: str) -> None:
    with pytest.raises(Unauthorized):
        bench.access.of_token(FORGED[fault](KEYS[alg]))


@pytest.mark.parametrize("other", ALGORITHMS)
def test_a_key_is_used_with_its_own_algorithm_alone(bench: Bench, alg: str, other: str) -> None:
    if alg != other:
        with pytest.raises(Unauthorized):
            bench.access.of_token(token({**KEYS[other], "kid": KEYS[alg]["kid"]}))


@pytest.mark.parametrize("asymmetric", ["EdDSA", "ES256"])
def test_a_public_key_is_no_secret(tmp_path: Path, asymmetric: str) -> None:
    key = KEYS[asymmetric]
    public = public_half(json.dumps({"keys": [key]}).encode())["keys"][0]
    bench = Bench(tmp_path, public)
    for secret in (pem(key), pem(key).strip(), json.dumps(public).encode(), base64.urlsafe_b64decode(key["x"] + "==")):
        for kid in ({"kid": key["kid"]}, {}):
            with pytest.raises(Unauthorized):
                bench.access.of_token(raw({"alg": "HS256", **kid}, GOOD, secret))
    assert bench.access.of_token(token(key)).sub == "ann"
    assert bench.access.of_token(token(key, kid=None)).sub == "ann"
    assert bench.access.sign(bench.access.of_token(token(key)), TX) is None


def test_one_key_needs_no_kid(tmp_path: Path, alg: str) -> None:
    unnamed = {name: value for name, value in KEYS[alg].items() if name != "kid"}
    bench = Bench(tmp_path, unnamed)
    assert bench.access.of_token(token(KEYS[alg], kid=None)).sub == "ann"
    with pytest.raises(Unauthorized):
        bench.access.of_token(token(KEYS[alg]))


@pytest.mark.parametrize(
    ("aud", "good"), [("here", True), (["there", "here"], True), ("there", False), ([], False), (None, False)]
)
def test_the_audience(tmp_path: Path, alg: str, aud: object, good: bool) -> None:
    bench = Bench(tmp_path, KEYS[alg], audience="here")
    text = token(KEYS[alg], GOOD if aud is None else {**GOOD, "aud": aud})
    if good:
        assert bench.access.of_token(text).sub == "ann"
    else:
        with pytest.raises(Unauthorized, match="audience"):
            bench.access.of_token(text)


def test_no_audience_is_asked_for(bench: Bench) -> None:
    assert bench.access.of_token(token(KEYS["ES256"], {**GOOD, "aud": "anywhere"})).sub == "ann"


# ---- rights


@pytest.mark.parametrize(
    ("claims", "verb", "tx", "allowed"),
    [
        ({"tx": TX, "can": ["watch"]}, "watch", TX, True),
        ({"tx": TX, "can": ["watch"]}, "watch", OTHER, False),
        ({"tx": TX, "can": ["watch"]}, "send", TX, False),
        ({"tx": [TX, OTHER], "can": ["cancel"]}, "cancel", OTHER, True),
        ({"tx": "*", "can": ["send"]}, "send", OTHER, True),
        ({"tx": ["*"], "can": ["send"]}, "send", OTHER, False),
        ({"can": ["watch"]}, "watch", TX, False),
        ({"tx": "*"}, "watch", TX, False),
        ({"can": ["start", "list"]}, "start", None, True),
        ({"tx": "*", "can": ["start"]}, "watch", TX, False),
        ({"tx": "*", "can": ["watch", "fly"]}, "watch", TX, True),
    ],
)
def test_what_may_be_done(bench: Bench, claims: dict[str, Any], verb: Any, tx: str | None, allowed: bool) -> None:
    rights = bench.access.of_token(token(KEYS["EdDSA"], {"exp": NOW + 60, **claims}))
    assert rights.may(verb, tx) is allowed
    if not allowed:
        with pytest.raises(Forbidden):
            bench.access.demand(rights, verb, tx)


def test_what_has_expired_allows_nothing(bench: Bench) -> None:
    rights = bench.access.of_token(token(KEYS["EdDSA"]))
    bench.wall = NOW + 60
    with pytest.raises(Unauthorized):
        bench.access.demand(rights, "watch", TX)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "token", "bearer\tabc"])
def test_a_header_without_a_token(header: str) -> None:
    with pytest.raises(Unauthorized):
        bearer(header)


def test_where_no_tokens_are_in_force() -> None:
    access = Access()
    assert access.of_header("Basic whatever") is access.of_token("x") is access.of_handshake(None) is OPEN
    assert access.demand(OPEN, "list") is OPEN
    assert access.sign(OPEN, TX) is None
    assert access.at_expiry(OPEN, lambda: None) is None


async def test_the_expiry_is_told(bench: Bench) -> None:
    expired = asyncio.Event()
    rights = bench.access.of_token(token(KEYS["EdDSA"], {**GOOD, "exp": NOW + 0.01}))
    expiry = bench.access.at_expiry(rights, expired.set)
    assert expiry is not None
    bench.wall = NOW + 1
    async with asyncio.timeout(PATIENCE_S):
        await expired.wait()


# ---- signing


def test_a_signed_token_is_as_long_as_its_callers(tmp_path: Path, alg: str) -> None:
    bench = Bench(tmp_path, KEYS[alg], audience="here")
    caller = Rights("ann", NOW + 60, None, frozenset({"start"}))
    text = bench.access.sign(caller, TX)
    can = frozenset({"watch", "send", "cancel"})
    assert bench.access.of_token(text) == Rights("ann", NOW + 60, frozenset({TX}), can)


def test_the_first_key_that_can_sign_signs(tmp_path: Path) -> None:
    [public] = public_half(json.dumps({"keys": [KEYS["ES256"]]}).encode())["keys"]
    bench = Bench(tmp_path, public, KEYS["EdDSA"], KEYS["HS256"])
    text = bench.access.sign(Rights(None, NOW + 60, None, frozenset()), TX)
    assert text is not None
    assert jwt.get_unverified_header(text) == {"alg": "EdDSA", "kid": KEYS["EdDSA"]["kid"], "typ": "JWT"}


# ---- the file


def test_keys_are_rotated(bench: Bench) -> None:
    old, new = token(KEYS["EdDSA"]), new_key("ES256")
    bench.put(KEYS["EdDSA"], new)
    with pytest.raises(Unauthorized):
        bench.access.of_token(token(new))  # not looked at yet
    bench.ticks += LOOK_S
    assert bench.access.of_token(token(new)).sub == bench.access.of_token(old).sub == "ann"
    bench.put(new)
    bench.ticks += LOOK_S
    with pytest.raises(Unauthorized):
        bench.access.of_token(old)


def test_what_a_key_allowed_ends_with_it(bench: Bench, alg: str) -> None:
    rights, others = bench.access.of_token(token(KEYS[alg])), [key for key in KEYS.values() if key is not KEYS[alg]]
    assert bench.access.stands(rights)
    assert not bench.access.keys_changed()
    bench.put(*others, STRANGERS[alg])
    bench.ticks += LOOK_S
    assert bench.access.keys_changed()
    assert not bench.access.keys_changed()
    assert not bench.access.stands(rights), "the kid is there, the key isn't"
    with pytest.raises(Unauthorized, match="key"):
        bench.access.demand(rights, "watch", TX)
    bench.put(*KEYS.values())
    bench.ticks += LOOK_S
    assert bench.access.stands(rights)


def test_where_no_tokens_are_in_force_nothing_is_withdrawn() -> None:
    access = Access()
    assert access.stands(OPEN)
    assert not access.keys_changed()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}'])
def test_a_file_that_breaks_leaves_the_old_keys(
    bench: Bench, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if text is None:
        bench.path.unlink()
    else:
        bench.write(text)
    for _ in range(3):
        bench.ticks += LOOK_S
        assert bench.access.of_token(token(KEYS["EdDSA"])).sub == "ann"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    bench.put(KEYS["ES256"])
    bench.ticks += LOOK_S
    assert bench.access.of_token(token(KEYS["ES256"])).sub == "ann"


BROKEN: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "no list of keys": {"keys": {}},
    "a key that is text": {"keys": ["k"]},
    "empty": {"keys": []},
    "RSA alone": {"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]},
    "no kty": {"keys": [{"k": "AAAA"}]},
    "kid is a number": {"keys": [{**KEYS["HS256"], "kid": 7}]},
    "the same kid twice": {"keys": [KEYS["EdDSA"], {**KEYS["ES256"], "kid": KEYS["EdDSA"]["kid"]}]},
    "two without kid": {"keys": [{k: v for k, v in KEYS[alg].items() if k != "kid"} for alg in ("EdDSA", "ES256")]},
    "the alg of another": {"keys": [{**KEYS["EdDSA"], "alg": "HS256"}]},
    "a short secret": {"keys": [{"kty": "oct", "k": b64(b"x" * 31)}]},
    "no secret": {"keys": [{"kty": "oct"}]},
    "a public key as secret": {"keys": [{"kty": "oct", "k": b64(pem(KEYS["ES256"]))}]},
    "a point that is on no curve": {"keys": [{**KEYS["ES256"], "x": b64(b"x" * 32)}]},
    "half a key": {"keys": [{**KEYS["EdDSA"], "x": "AAAA", "d": "AAAA"}]},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(BROKEN[fault] if isinstance(BROKEN[fault], bytes) else json.dumps(BROKEN[fault]).encode())
    with pytest.raises(KeysUnusable) as refused:
        KeyFile(path)
    assert str(refused.value).startswith(f"--token-keys {path}: ")
    assert "\n" not in str(refused.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="No such file"):
        KeyFile(tmp_path / "missing.json")


def test_keys_of_other_kinds_are_passed_over() -> None:
    rsa = {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB", "alg": "RS256"}
    sealing = {**KEYS["ES256"], "use": "enc"}
    found = read_keys(json.dumps({"keys": [rsa, sealing, KEYS["EdDSA"]]}).encode())
    assert [key.alg for key in found.keys] == ["EdDSA"]


def test_a_key_shows_no_secret() -> None:
    assert KEYS["HS256"]["k"] not in repr(read_keys(json.dumps({"keys": [KEYS["HS256"]]}).encode()))
    assert "verifier" not in repr(read_keys(json.dumps({"keys": [KEYS["HS256"]]}).encode()))


def test_a_file_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, KEYS["HS256"])
    assert not caplog.records
    os.chmod(bench.path, 0o644)
    KeyFile(bench.path)
    assert "chmod 600" in caplog.text


# ---- the handshake of a WebSocket


@pytest.mark.parametrize(
    ("path", "header", "refused", "found"),
    [
        ("/v1/ws", None, False, None),
        ("/v1/ws", "good", False, "ann"),
        ("/v1/ws", "bad", True, None),
        ("/v1/ws?token=GOOD", None, False, None),  # attaches bring their own
        ("/v1/transactions/t/ws", None, True, None),
        ("/v1/transactions/t/ws", "good", False, "ann"),
        ("/v1/transactions/t/ws?after=0&token=GOOD", None, False, "ann"),
        ("/v1/transactions/t/ws?token=bad", None, True, None),
        ("/v1/transactions/t/ws?token=GOOD", "bad", True, None),
    ],
)
def test_a_handshake(bench: Bench, path: str, header: str | None, refused: bool, found: str | None) -> None:
    good = token(KEYS["EdDSA"])
    headers = Headers() if header is None else Headers(Authorization="Bearer " + header.replace("good", good))
    edge, request = cast(Any, SimpleNamespace(access=bench.access)), Request(path.replace("GOOD", good), headers)
    if refused:
        with pytest.raises(Unauthorized):
            rights_of(edge, request)
    else:
        rights = rights_of(edge, request)
        assert (rights and rights.sub) == found


def test_two_tokens_at_a_handshake(bench: Bench) -> None:
    headers = Headers([("Authorization", "Bearer " + token(KEYS["EdDSA"]))] * 2)
    with pytest.raises(Unauthorized):
        rights_of(cast(Any, SimpleNamespace(access=bench.access)), Request("/v1/ws", headers))
