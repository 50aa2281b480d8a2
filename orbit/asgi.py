"""`orbit.asgi`: an edge inside an ASGI application of one's own (FastAPI, Starlette, Django's ASGI, Quart)."""

from __future__ import annotations

from collections.abc import Sequence

from orbit.config import Limits, Timing
from orbit.edge.admission import Capacity
from orbit.edge.config import EdgeConfig, Pulse
from orbit.edge.mounted import MountedEdge

__all__ = ["Capacity", "MountedEdge", "edge"]


def edge(
    redis: str,
    *,
    namespace: str = "orbit",
    token_keys: str | None = None,
    audience: str | None = None,
    origins: Sequence[str] = (),
    insecure: bool = False,
    capacity: Capacity | None = None,
    limits: Limits | None = None,
    timing: Timing | None = None,
    pulse: Pulse | None = None,
) -> MountedEdge:
    """An edge to mount: the same protocol as `orbit edge`, below the path where it is mounted.

    Enter its `lifespan` in the application's own; served by itself, it needs nothing more. Each process of the server
    is an edge of its own.

    Args:
        redis: The deployment's Redis.
        token_keys: The file with the JWK Set that tokens are judged by; None: no tokens are in force.
        audience: What a token's `aud` must name; None: anything.
        origins: The origins of browsers' pages that are let in, beside the application's own; `*`: all.
        insecure: Serve clients of other machines, although no tokens are in force.
        capacity: What it takes on before it turns away who comes.
    """
    return MountedEdge(
        EdgeConfig(
            redis,
            namespace=namespace,
            token_keys=token_keys,
            audience=audience,
            origins=tuple(origins),
            insecure=insecure,
            capacity=capacity or Capacity(),
            limits=limits or Limits(),
            timing=timing or Timing(),
            pulse=pulse or Pulse(),
        )
    )
