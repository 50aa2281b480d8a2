"""`orbit token` and `orbit keys`: tokens for clients, and the keys that they are judged by."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Annotated

from orbit.cli import options as o
from orbit.cli.failures import USAGE, CommandError
from orbit.cli.output import note

OF_NONE = frozenset({"start", "list"})
"""The verbs that are of use to a token about no transaction."""


def token(
    token_keys: o.TokenKeys = None,
    tx: Annotated[
        list[str] | None,
        o.option("tx", "The transaction that it is about, or * for all; may be given several times.", metavar="ID"),
    ] = None,
    can: Annotated[
        str, o.option("can", "What it allows, with commas: watch, send, start, cancel, list.", metavar="VERBS")
    ] = "watch",
    ttl_s: Annotated[float, o.option("ttl-s", "How long it is valid.", metavar="N", least=1.0, most=1e10)] = 3600.0,
    sub: Annotated[str | None, o.option("sub", "Whom it is for.", metavar="S")] = None,
    audience: o.Audience = None,
) -> None:
    """Sign a token with the first key that can sign; prints it."""
    from orbit.edge.access.access import claims_of  # only this command needs it
    from orbit.edge.access.keys import read_keys
    from orbit.edge.access.rights import TEXT_CHARACTERS, VERBS

    if token_keys is None:
        raise CommandError("which keys? Say --token-keys FILE, or set ORBIT_TOKEN_KEYS", USAGE)
    verbs = tuple(word.strip() for word in can.split(",") if word.strip())
    for verb in verbs:
        if verb not in VERBS:
            raise CommandError(f"--can {verb}: it is made of {', '.join(sorted(VERBS))}", USAGE)
    of_one = [verb for verb in verbs if verb not in OF_NONE]
    ids = _ids(tx or [])
    if of_one and not ids:
        raise CommandError(f"which transaction may one {of_one[0]}? Say --tx ID, or --tx '*' for all", USAGE)
    if sub is not None and len(sub) > TEXT_CHARACTERS:
        raise CommandError(f"--sub has at most {TEXT_CHARACTERS} characters", USAGE)
    keys = read_keys(_read(token_keys))
    signed = keys.sign(claims_of(sub, math.ceil(time.time() + ttl_s), ids, verbs, audience))
    if signed is None:
        raise CommandError(f"--token-keys {token_keys}: it holds public keys alone, which can't sign")
    print(signed)


def _ids(said: list[str]) -> str | list[str]:
    """The claim `tx`: an id, several, or all."""
    from orbit.protocol.ids import is_name

    ids = [one.strip() for text in said for one in text.split(",") if one.strip()]
    for one in ids:
        if one != "*" and not is_name(one):
            raise CommandError(f"--tx {one}: an id has 16 to 64 characters of A-Za-z0-9_-", USAGE)
    if "*" in ids:
        return "*"
    return ids[0] if len(ids) == 1 else ids


def keys(
    alg: Annotated[str, o.option("alg", "EdDSA, ES256 or HS256.", metavar="A")] = "EdDSA",
    public: Annotated[
        str | None, o.option("public", "Print the public half of the keys in FILE instead.", metavar="FILE")
    ] = None,
) -> None:
    """Print a new JWK Set with a private key."""
    from orbit.edge.access.keys import new_key, public_half  # only this command needs it

    if public is not None:
        print(json.dumps(public_half(_read(public)), indent=2))
        return
    print(json.dumps({"keys": [new_key(alg)]}, indent=2))
    note("keep it secret: only its owner should read the file (chmod 600)")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
