"""The command `orbit verify`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

from orbit.cli import options as o
from orbit.cli.failures import USAGE, CommandError
from orbit.errors import StoreUnusable


def verify(
    redis: Annotated[
        str | None, o.option("redis", "Verify with this Redis, in a namespace of its own there.", metavar="URL")
    ] = None,
    faults: Annotated[
        str | None, o.option("faults", "Which faults, with commas; all that can be done unless told.", metavar="NAMES")
    ] = None,
    for_: Annotated[str, o.option("for", "How long they go on, as in 60s or 2m.", metavar="TIME")] = "60s",
    seed: Annotated[int | None, o.option("seed", "Do again what was drawn from this number.", metavar="N")] = None,
    clients: Annotated[int, o.option("clients", "How many clients.", metavar="N", least=2)] = 16,
    durability: o.Durability = None,
    json: Annotated[
        str | None, o.option("json", "The verdict as JSON, to this file; - is stdout.", metavar="FILE")
    ] = None,
    logs: Annotated[
        Path | None, o.option("logs", "Keep what processes print and clients see in this directory.", metavar="DIR")
    ] = None,
) -> None:
    """Break a deployment on purpose, and judge what clients saw.

    They and the States aren't to notice: no gap, no repeat, nothing lost that they weren't told of.
    """
    from orbit.cli.life import live  # other commands don't wait for these
    from orbit.cli.verify.course import Order, run_verify
    from orbit.cli.verify.scene import Setting, proxied
    from orbit.store.durability import durability as kept_by
    from orbit.verify.plan import NotAPlan, chosen, offered, seconds

    try:
        names = chosen(faults, offered(links=proxied(redis), server=redis is None))
        for_s, waits = seconds(for_), kept_by(durability)
    except (NotAPlan, StoreUnusable) as error:
        raise CommandError(str(error), USAGE) from None
    if json not in (None, "-") and not Path(str(json)).parent.is_dir():
        raise CommandError(f"--json {json}: there is no directory {Path(str(json)).parent}", USAGE)
    replica = "failover" in names or (waits is not None and waits.replicas > 0)
    order = Order(
        setting=Setting(redis=redis, replica=replica, logs=logs, durability=waits),
        faults=names,
        for_s=for_s,
        seed=random.SystemRandom().randrange(10**9) if seed is None else seed,
        clients=clients,
        json=json,
    )
    live(lambda stop: run_verify(order, stop))
