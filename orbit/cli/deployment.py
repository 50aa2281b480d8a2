"""Where a command finds its deployment: over Redis, over an edge, or in the `orbit dev` that runs here."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orbit.cli import running
from orbit.cli.failures import USAGE, CommandError
from orbit.cli.where import Where
from orbit.client import Broker, Client
from orbit.errors import Unauthorized
from orbit.store.store import Store
from orbit.store.types import StoreSettings

Deployment = Broker | Client
"""Both have the same verbs."""

PATIENCE_S = 5.0
"""How long a command tries to reach an edge, and to have a transaction followed."""


@asynccontextmanager
async def opened(where: Where) -> AsyncIterator[Deployment]:
    """The deployment, connected. An edge is shown the token in `ORBIT_TOKEN`: on a command line others could read it.

    Raises:
        CommandError: It isn't said where, or is said twice.
    """
    _, url = _chosen(where)
    if url is not None:
        token = os.environ.get("ORBIT_TOKEN") or None
        async with Client(url, token=token, patience_s=PATIENCE_S) as client:
            try:
                yield client
            except Unauthorized as error:
                if token is not None:
                    raise
                raise Unauthorized(f"{error.message}; ORBIT_TOKEN holds it") from None
        return
    async with opened_store(where) as store, Broker(store) as broker:
        yield broker


@asynccontextmanager
async def opened_store(where: Where, *, keep: bool = True) -> AsyncIterator[Store]:
    """The store of the deployment. `keep`: as `Store.open`. Raises as `opened`."""
    redis, namespace = (where.redis, where.namespace) if where.redis is not None else _running()
    store = await Store.open(redis, StoreSettings(namespace=namespace, partitions=where.partitions), keep=keep)
    try:
        yield store
    finally:
        await store.close()


def _chosen(where: Where) -> tuple[str | None, str | None]:
    """At most one of Redis and URL: what the command line says goes before what the environment says."""
    if where.redis is None or where.url is None:
        return where.redis, where.url
    from_environment = where.redis == os.environ.get("ORBIT_REDIS"), where.url == os.environ.get("ORBIT_URL")
    if from_environment == (True, False):
        return None, where.url
    if from_environment == (False, True):
        return where.redis, None
    raise CommandError("a Redis and a URL were given: which of the two?", USAGE)


def _running() -> tuple[str, str]:
    """The Redis and namespace of the `orbit dev` that runs here."""
    found = running.find()
    if len(found) == 1:
        return found[0].redis, found[0].namespace
    if found:
        urls = ", ".join(f"--url {one.url}" for one in found)
        raise CommandError(f"several orbit dev run here, so say which: {urls}", USAGE)
    raise CommandError("which deployment? Say --redis URL or --url http://edge, or start `orbit dev`", USAGE)
