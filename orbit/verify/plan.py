"""What is done to a deployment, and when: drawn from a seed, so that a plan can be had again exactly. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

TOGETHER = 4
"""So many kinds of faults happen at their own pace at once; with more of them each comes more seldom."""
QUIET_S = 1.0
"""Nothing happens so soon after the beginning."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        what: For people.
        gap_s: From one's end to the next one's beginning, on average.
        lasts_s: How long one lasts, from and to.
        on: What it needs: `processes` of our own, `links` to Redis that go through a proxy, a `server` of our own.
    """

    name: str
    what: str
    gap_s: float
    lasts_s: tuple[float, float]
    on: str = "processes"


_ALL = (
    Fault("worker-kill", "SIGKILL to a worker; it is started again after a while", 3.0, (0.2, 3.0)),
    Fault("worker-pause", "SIGSTOP to a worker past its lease, then SIGCONT", 3.0, (2.5, 6.0)),
    Fault("worker-drain", "another worker joins, then SIGTERM to one", 3.0, (0.0, 0.0)),
    Fault("edge-kill", "SIGKILL to an edge; it is started again after a while", 4.0, (0.2, 2.0)),
    Fault("edge-pause", "SIGSTOP to an edge, then SIGCONT", 4.0, (1.0, 5.0)),
    Fault("edge-drain", "another edge joins, then SIGTERM to one", 4.0, (0.0, 0.0)),
    Fault("redis-restart", "SIGKILL to Redis, or a stop in good order, and a start", 6.0, (0.1, 2.0), "server"),
    Fault("redis-pause", "SIGSTOP to Redis, then SIGCONT", 5.0, (0.5, 4.0), "server"),
    Fault("redis-full", "maxmemory below what Redis holds", 5.0, (0.5, 3.0), "server"),
    Fault("failover", "a replica is cut off, then promoted: the newest writes are lost", 6.0, (0.1, 1.5), "server"),
    Fault("partition", "a link gone silent, in one direction or both, or broken and refused", 2.0, (0.5, 5.0), "links"),
    Fault("latency", "a link that takes 10 to 200 ms longer", 3.0, (1.0, 5.0), "links"),
    Fault("cut", "a script is done, its reply and the connection are lost", 0.7, (0.1, 0.5), "links"),
    Fault("pubsub-drop", "half of the published messages to one process are lost", 2.0, (1.0, 5.0), "links"),
    Fault("slow-client", "a client stops reading while much is sent", 3.0, (1.0, 6.0)),
    Fault("clock-skew", "a process whose clocks are wrong, and run too fast or too slow", 5.0, (4.0, 8.0)),
)  # fmt: skip
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
LOSING = frozenset({"failover"})
"""Faults in which Redis loses writes."""

HARMLESS = frozenset({"edge-kill", "edge-pause", "edge-drain", "worker-drain", "pubsub-drop", "slow-client"})
"""Faults in which no worker loses a lease."""


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault that is to happen.

    Attributes:
        at_s: When, from the beginning.
        lasting_s: How long.
        draw: From 0 to below 1: for whatever else has to be chosen (the victim, the direction).
    """

    fault: str
    at_s: float
    lasting_s: float
    draw: float


class NotAPlan(ValueError):
    """The faults or the time that were asked for aren't any; the text says what there is."""


def plan(faults: Sequence[str], for_s: float, seed: int) -> tuple[Injection, ...]:
    """All that is to happen within `for_s`, in order; each of `faults` at least once."""
    crowding = max(1.0, len(faults) / TOGETHER)
    found = [one for name in faults for one in _of(FAULTS[name], for_s, crowding, random.Random(f"{seed} {name}"))]
    return tuple(sorted(found, key=lambda one: (one.at_s, one.fault)))


def _of(fault: Fault, for_s: float, crowding: float, rng: random.Random) -> list[Injection]:
    gap_s = fault.gap_s * crowding
    at_s = min(QUIET_S, for_s / 5) + rng.uniform(0, min(gap_s, for_s / 2))
    found: list[Injection] = []
    while at_s < for_s * 0.9 or not found:
        lasting_s = min(rng.uniform(*fault.lasts_s), for_s - at_s)
        found.append(Injection(fault.name, at_s, lasting_s, rng.random()))
        at_s += lasting_s + gap_s * rng.uniform(0.5, 1.5)
    return found


def chosen(text: str | None, offered: Sequence[str]) -> tuple[str, ...]:
    """The faults that `text` names, with commas; all that are `offered` where it names none.

    Raises:
        NotAPlan: It names one that isn't offered.
    """
    if text is None or text.strip() in ("", "all"):
        return tuple(offered)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FAULTS:
            raise NotAPlan(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
        if name not in offered:
            raise NotAPlan(f"{name} can't be done to this deployment; what can: {', '.join(offered)}")
    return tuple(name for name in FAULTS if name in names)


def offered(*, links: bool, server: bool) -> tuple[str, ...]:
    """The faults that can be done where the links to Redis go through a proxy, and where the server is our own."""
    can = {"processes"} | ({"links"} if links else set()) | ({"server"} if server else set())
    return tuple(fault.name for fault in _ALL if fault.on in can)


def seconds(text: str) -> float:
    """A time: `90`, `90s`, `1.5m`, `500ms`.

    Raises:
        NotAPlan: It is none, or not above 0.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?", text.strip())
    found = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else 0.0
    if not 0 < found <= 86_400:
        raise NotAPlan(f"a time is a number of seconds, or as 60s or 2m, up to a day, not {text!r}")
    return found
