"""Checks at start-up: that this Redis can hold this deployment. Where it can't, one line says what to do."""

from __future__ import annotations

import asyncio
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass

from redis import exceptions as redis_errors

from orbit.config import DEFAULT_PARTITIONS
from orbit.errors import Internal, OrbitError, OutcomeUnknown, RequestError, StoreUnusable, Unavailable
from orbit.store import decode, script
from orbit.store.address import open_connection, say
from orbit.store.durability import MEMORY, Durability, recorded
from orbit.store.keys import MAX_PARTITIONS, Registers
from orbit.store.link import Link
from orbit.store.outcome import not_sent
from orbit.store.types import StoreSettings

FORMAT = "1"
"""Of what the keys hold. Another one can't be read by this version."""
OLDEST = (7, 0)
"""Of Redis; Valkey's own numbers begin at 7.2, and that first one calls itself redis here."""
_VERSION = re.compile(r"(\d+)\.(\d+)")
_EVICTING = ("allkeys-lru", "allkeys-lfu", "allkeys-random")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is recorded of a deployment at its first use. `secret` keys its public names and derived ids."""

    partitions: int
    secret: bytes
    durability: Durability = MEMORY


async def check(link: Link, settings: StoreSettings, *, keep: bool = True) -> Deployment:
    """Check the server and the deployment; record the latter where it is new.

    From then on `link` keeps to its durability, unless `keep` is False.

    Raises:
        StoreUnusable: One line that says what to do.
        Unavailable: Redis isn't there, or those that are to hold what is acknowledged aren't.
    """
    registers = Registers(settings.namespace)
    for key in await link.one_each(registers.probe):
        await _check_login(link, key)
        await _check_server(link, key)
        await _check_scripts(link, registers, key)
        await _check_subscriptions(link, registers, key)
    deployment = await _check_deployment(link, registers, settings)
    if keep:
        await _keep(link, registers, deployment.durability)
    return deployment


async def _check_login(link: Link, key: str) -> None:
    """A password that is wrong now is wrong later: waiting for another one would look like a server that is away."""
    connection = await link.new_connection(key)
    try:
        await open_connection(connection, link.timeout_s)
    except (redis_errors.RedisError, OSError, TimeoutError) as error:
        if not any(isinstance(told, redis_errors.AuthenticationError) for told in (error, error.__cause__)):
            raise not_sent(error) from error
        raise StoreUnusable(
            f"this Redis refuses the user or password: put the right ones into its URL, as in "
            f"redis://user:password@host:port ({_line(error)})"
        ) from error
    finally:
        await connection.disconnect(nowait=True)


async def _check_server(link: Link, key: str) -> None:
    hello = await _hello(link, key)
    match = _VERSION.match(hello.get("version", ""))
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < OLDEST:
        shown = hello.get("version") or "older than 6"
        raise StoreUnusable(f"this server is Redis {shown}: Orbit needs Redis 7.0 or Valkey 7.2, or newer; upgrade it")
    if hello.get("mode") == "cluster" and not link.topology.sharded:
        raise StoreUnusable("this server is part of a cluster: give its address as redis+cluster://host:port")
    if hello.get("role") in ("replica", "slave"):
        raise StoreUnusable("this server is a replica, which can't be written: give the address of its primary")


async def _hello(link: Link, key: str) -> dict[str, str]:
    try:
        flat = await link.read("HELLO", at=key)
    except OrbitError as error:
        if isinstance(error.__cause__, redis_errors.ResponseError) and "unknown command" in str(error).lower():
            return {}
        raise
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


async def _info(link: Link, section: str, key: str) -> dict[str, str]:
    try:
        raw = await link.read("INFO", section, at=key)
    except (StoreUnusable, Internal):
        return {}  # the rules forbid it, or there is no such command: then nothing is known
    lines = (line.partition(":") for line in raw.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


async def _check_scripts(link: Link, registers: Registers, key: str) -> None:
    try:
        await link.write("EVAL", "return 1", 1, key, at=key)  # what a script is sent by where the server lost it
        await link.run(script.PROBE, (key,))
    except RequestError as error:
        if error.code != "internal":
            raise
        raise StoreUnusable(f"this server doesn't run Orbit's scripts: {_line(error)}") from error
    except StoreUnusable as error:
        raise StoreUnusable(
            f"the rules (ACL) of this Redis user forbid what Orbit's scripts need: allow it the keys and channels "
            f"{registers.namespace}:* and the commands that docs/redis.md lists ({_line(error)})"
        ) from error
    policy = (await _info(link, "memory", key)).get("maxmemory_policy", "").strip()
    if policy in _EVICTING:
        raise StoreUnusable(
            f"this server drops keys when it is full (maxmemory-policy {policy}): set maxmemory-policy noeviction"
        )


async def _check_subscriptions(link: Link, registers: Registers, key: str) -> None:
    """Subscribe on a connection of its own, and leave, as a subscriber does; what only a cluster asks for, too."""
    channel = f"{key}:live"
    commands = [("SSUBSCRIBE", channel), ("PING",), ("SUNSUBSCRIBE", channel)]
    if link.topology.sharded:
        commands.append(("ASKING",))
    connection = await link.new_connection(key)
    try:
        await open_connection(connection, link.timeout_s)
        for command in commands:
            await say(connection, *command)
            async with asyncio.timeout(link.timeout_s):
                await connection.read_response()
    except (redis_errors.ResponseError, redis_errors.AuthenticationError) as error:
        raise StoreUnusable(
            f"the rules (ACL) of this Redis user forbid sharded pub/sub: allow it the channels "
            f"{registers.namespace}:* and +ssubscribe +sunsubscribe +spublish +ping, on a cluster +asking "
            f"({_line(error)})"
        ) from error
    except (redis_errors.RedisError, OSError, TimeoutError) as error:
        raise not_sent(error) from error
    finally:
        await connection.disconnect(nowait=True)


async def _check_deployment(link: Link, registers: Registers, settings: StoreSettings) -> Deployment:
    wanted = settings.partitions
    if wanted is not None and not 1 <= wanted <= MAX_PARTITIONS:
        raise StoreUnusable(f"a deployment has 1 to {MAX_PARTITIONS} partitions, not {wanted}")
    fresh = b64encode(secrets.token_bytes(32))
    raw = await link.run(
        script.DEPLOYMENT, (registers.deployment,), wanted or DEFAULT_PARTITIONS, fresh, FORMAT,
        str(settings.durability or MEMORY),
    )  # fmt: skip
    partitions, secret, written, kept = int(raw[0]), b64decode(raw[1]), decode.text(raw[2]), decode.text(raw[3])
    if written != FORMAT:
        raise StoreUnusable(
            f"the deployment {registers.namespace!r} was written in format {written}, this version of Orbit reads "
            f"{FORMAT}: use the version that wrote it, or another namespace"
        )
    if wanted is not None and wanted != partitions:
        raise StoreUnusable(
            f"the deployment {registers.namespace!r} has {partitions} partitions, not {wanted}, and that can't be "
            f"changed: use --partitions {partitions}, or leave it out"
        )
    durability = recorded(kept)
    if settings.durability not in (None, durability):
        raise StoreUnusable(
            f"the deployment {registers.namespace!r} has durability {durability}, not {settings.durability}: leave "
            f"--durability out, or change it for all with `orbit durability` and start every process again"
        )
    return Deployment(partitions, secret, durability)


async def record_again(link: Link, registers: Registers, deployment: Deployment) -> None:
    """Record the deployment as this process knows it, should Redis have lost that.

    Raises:
        StoreUnusable: It is another one by now: public names and derived ids of the two would be mixed.
    """
    raw = await link.run(
        script.DEPLOYMENT, (registers.deployment,), deployment.partitions, b64encode(deployment.secret), FORMAT,
        str(deployment.durability),
    )  # fmt: skip
    if b64decode(raw[1]) != deployment.secret or int(raw[0]) != deployment.partitions:
        raise StoreUnusable(
            f"Redis lost what was recorded of the deployment {registers.namespace!r}, and another process recorded it "
            f"anew: start every process again"
        )


async def change_durability(link: Link, registers: Registers, wanted: Durability) -> None:
    """Record another durability, once it was seen that it can be had. Raises as `check`."""
    await _keep(link, registers, wanted)
    await link.write("HSET", registers.deployment, "durability", str(wanted))
    await _keep(link, registers, wanted)


async def _check_durability(link: Link, key: str, durability: Durability) -> None:
    """See that the server with this key can be asked for it."""
    if not durability.waits:
        return
    try:
        await link.write(*durability.commands(1)[-1], at=key)
    except Internal as error:
        said = _line(error)
        if "appendonly" in said:
            advice = "set appendonly yes (and appendfsync always or everysec)"
        elif "unknown command" in said:
            advice = "upgrade it to Redis 7.2 or Valkey, or choose memory or replicated"
        else:
            advice = "choose another one"
        raise StoreUnusable(f"this server can't have durability {durability}: {advice} ({said})") from error


async def _keep(link: Link, registers: Registers, durability: Durability) -> None:
    """From now on acknowledgements wait; the first is for what is recorded of the deployment."""
    for key in await link.one_each(registers.probe):
        await _check_durability(link, key, durability)
    await link.keep(durability)
    try:
        await link.keep_read(registers.deployment, "HGET", registers.deployment, "format")
    except OutcomeUnknown as error:
        raise Unavailable(f"its durability, {durability}, can't be had now: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
