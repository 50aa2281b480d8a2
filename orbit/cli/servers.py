"""`orbit worker`, `orbit edge` and `orbit dev`: the server processes."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import Annotated

from orbit.cli import options as o
from orbit.cli.children import ORBIT
from orbit.cli.failures import USAGE, CommandError
from orbit.cli.life import live
from orbit.cli.logs import set_up
from orbit.cli.output import note
from orbit.config import Limits, Timing
from orbit.store.durability import durability as kept_by


def worker(
    app: o.App,
    redis: o.Redis = None,
    concurrency: o.Concurrency = 100,
    queue: o.Queue = None,
    lease_s: o.LeaseS = o.TIMING.lease_s,
    drain_s: o.DrainS = o.TIMING.drain_s,
    grace_s: o.GraceS = o.TIMING.grace_s,
    health_port: o.HealthPort = None,
    processes: o.Processes = None,
    data_bytes: o.DataBytes = o.LIMITS.data_bytes,
    snapshot_bytes: o.SnapshotBytes = o.LIMITS.snapshot_bytes,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
    durability: o.Durability = None,
    replicas: o.Replicas = None,
    log_level: o.LogLevel = "info",
    log_format: o.LogFormat = "auto",
    rebuild_fields: Annotated[
        bool, o.flag("rebuild-fields", "Rebuild the fields after every commit.", hidden=True)
    ] = False,
) -> None:
    """A worker process: runs the States of APP."""
    url = needed(redis)
    set_up(log_level, log_format)

    async def life(stop: asyncio.Event) -> None:
        from orbit.worker import WorkerConfig, run_worker  # only this command needs it

        await run_worker(
            WorkerConfig(
                app=app,
                redis=url,
                concurrency=concurrency,
                queues=tuple(queue or ()),
                lease_s=lease_s,
                drain_s=drain_s,
                grace_s=grace_s,
                health_port=health_port,
                namespace=namespace,
                partitions=partitions,
                durability=kept_by(durability, replicas),
                limits=Limits(data_bytes=data_bytes, snapshot_bytes=snapshot_bytes),
                say=note,
                stop=stop,
                rebuild_always=rebuild_fields,
                processes=processes or os.cpu_count() or 1,
                alone=(*ORBIT, "alone"),
            )
        )

    live(life)


def alone(
    log_level: o.LogLevel = "info",
    log_format: o.LogFormat = "auto",
) -> None:
    """Run the one transaction that stdin tells of (a worker starts this)."""
    set_up(log_level, log_format)
    text = sys.stdin.read()

    async def life(stop: asyncio.Event) -> None:
        from orbit.worker.alone import run_alone  # only this command needs it

        await run_alone(text, stop)

    live(life)


def edge(
    redis: o.Redis = None,
    host: o.Host = "127.0.0.1",
    port: o.Port = 8000,
    drain_s: o.DrainS = o.TIMING.drain_s,
    token_keys: o.TokenKeys = None,
    audience: o.Audience = None,
    origin: o.Origin = None,
    trusted_proxies: o.TrustedProxies = None,
    sessions: o.Sessions = 0,
    connection_messages_s: o.ConnectionMessagesS = 0.0,
    subject_messages_s: o.SubjectMessagesS = 0.0,
    address_messages_s: o.AddressMessagesS = 0.0,
    subject_starts_s: o.SubjectStartsS = 0.0,
    address_starts_s: o.AddressStartsS = 0.0,
    insecure: o.Insecure = False,
    data_bytes: o.DataBytes = o.LIMITS.data_bytes,
    frame_bytes: o.FrameBytes = o.LIMITS.frame_bytes,
    inbox_messages: o.InboxMessages = o.LIMITS.inbox_messages,
    attaches: o.Attaches = o.LIMITS.attaches,
    max_connections: o.MaxConnections = 0,
    max_attaching: o.MaxAttaching = 1_000,
    max_lag_s: o.MaxLagS = 1.0,
    grace_s: o.GraceS = o.TIMING.grace_s,
    session_retain_s: o.SessionRetainS = o.TIMING.session_retain_s,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
    durability: o.Durability = None,
    replicas: o.Replicas = None,
    log_level: o.LogLevel = "info",
    log_format: o.LogFormat = "auto",
) -> None:
    """An edge process: HTTP and WebSockets for the clients."""
    set_up(log_level, log_format)
    url = needed(redis)

    async def life(stop: asyncio.Event) -> None:
        from orbit.edge import Capacity, EdgeConfig, RateSettings, run_edge  # only this command needs it

        config = EdgeConfig(
            redis=url,
            host=host,
            port=port,
            insecure=insecure,
            token_keys=token_keys,
            audience=audience,
            origins=tuple(origin or ()),
            trusted_proxies=tuple(trusted_proxies or ()),
            rates=RateSettings(
                connection_messages_s=connection_messages_s,
                subject_messages_s=subject_messages_s,
                address_messages_s=address_messages_s,
                subject_starts_s=subject_starts_s,
                address_starts_s=address_starts_s,
            ),
            capacity=Capacity(max_connections, max_attaching, max_lag_s),
            say=note,
            namespace=namespace,
            partitions=partitions,
            durability=kept_by(durability, replicas),
            limits=Limits(
                data_bytes=data_bytes,
                frame_bytes=frame_bytes,
                inbox_messages=inbox_messages,
                attaches=attaches,
                sessions=sessions,
            ),
            timing=Timing(drain_s=drain_s, grace_s=grace_s, session_retain_s=session_retain_s),
        )
        await run_edge(replace(config, stop=stop))

    live(life)


def dev(
    app: o.App,
    host: o.Host = "127.0.0.1",
    port: o.Port = 8000,
    workers: o.Workers = 1,
    redis: o.Redis = None,
    reload: Annotated[bool, o.flag("reload", "Start the workers again when the code changes.")] = False,
    insecure: o.Insecure = False,
    token_keys: o.TokenKeys = None,
    audience: o.Audience = None,
    origin: o.Origin = None,
    lease_s: o.LeaseS = o.TIMING.lease_s,
    drain_s: o.DrainS = 5.0,
    namespace: o.Namespace = "orbit",
    partitions: o.Partitions = None,
    durability: o.Durability = None,
    replicas: o.Replicas = None,
    log_level: o.LogLevel = "info",
    log_format: o.LogFormat = "console",
) -> None:
    """Everything on one machine: a Redis, one edge, N workers.

    The Redis is a private one, gone when this ends, unless --redis names another.
    """
    set_up(log_level, log_format)

    async def life(stop: asyncio.Event) -> None:
        from orbit.cli.dev import Plan, run_dev  # only this command needs it

        plan = Plan(
            app=app,
            host=host,
            port=port,
            workers=workers,
            redis=redis,
            reload=reload,
            insecure=insecure,
            token_keys=token_keys,
            audience=audience,
            origins=tuple(origin or ()),
            namespace=namespace,
            partitions=partitions,
            durability=kept_by(durability, replicas),
            lease_s=lease_s,
            drain_s=drain_s,
            log_level=log_level,
            log_format=log_format,
        )
        await run_dev(plan, stop)

    live(life)


def needed(redis: str | None) -> str:
    """The Redis that a server process was given."""
    if redis is None:
        raise CommandError("which Redis? Say --redis URL, or set ORBIT_REDIS", USAGE)
    return redis
