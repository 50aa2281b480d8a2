"""How well what is acknowledged must be kept: the deployer's choice, as a value, and what asks the server for it.

Which answers acknowledge anything stands here, too: `ACKNOWLEDGES`, by script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from orbit.errors import StoreUnusable

Kind = Literal["memory", "fsync", "replicated", "replicated-fsync"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
MOST_REPLICAS = 100


@dataclass(frozen=True, slots=True)
class Durability:
    """What must hold a write before it is acknowledged.

    Attributes:
        kind: `memory`: the server's memory. `fsync`: its disk. `replicated`: the memory of `replicas` others as well.
            `replicated-fsync`: the disks of all of them.
        replicas: How many replicas; 0 unless `kind` says replicated.
    """

    kind: Kind = "memory"
    replicas: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.replicas}" if self.replicas else self.kind

    @property
    def waits(self) -> bool:
        """Whether acknowledgements wait."""
        return self.kind != "memory"

    def commands(self, timeout_ms: int) -> tuple[tuple[str | int, ...], ...]:
        """What waits on a server for at most that long until the writes of its connection are kept; the last one tells.

        A replica says how much it has synced as it reads the question; what came along with that it syncs right after,
        and says so by itself only once a second. So it is asked for its disk once it has answered that it has read all.

        Source: https://valkey.io/commands/wait/ and /waitaof/: both cover what this very connection wrote before.
        """
        if self.kind == "replicated":
            return (("WAIT", self.replicas, timeout_ms),)
        if self.kind == "fsync":
            return (("WAITAOF", 1, 0, timeout_ms),)
        first_ms = max(1, timeout_ms // 10)
        return ("WAIT", self.replicas, first_ms), ("WAITAOF", 1, self.replicas, max(1, timeout_ms - first_ms))

    def missing(self, reply: Any) -> str:
        """Why a server's answer to the last of `commands` acknowledges nothing; empty where it does."""
        disks = 1 if self.kind == "replicated" else int(reply[0])
        replicas = int(reply) if self.kind == "replicated" else int(reply[1])
        if not disks:
            return "its append-only file wasn't synced in time"
        if replicas < self.replicas:
            return f"{replicas} of {self.replicas} replicas had it in time"
        return ""


MEMORY: Final = Durability()


def durability(kind: str | None, replicas: int | None = None) -> Durability | None:
    """What the options say: None where they say nothing.

    Args:
        replicas: For the replicated kinds; 1 unless told.

    Raises:
        StoreUnusable: They mean nothing; one line.
    """
    if kind is None:
        if replicas is not None:
            raise StoreUnusable("--replicas says how many for --durability replicated: name that, too")
        return None
    if kind not in KINDS:
        raise StoreUnusable(f"durability is one of {', '.join(KINDS)}, not {kind[:32]!r}")
    if not kind.startswith("replicated"):
        if replicas:
            raise StoreUnusable(f"durability {kind} has no replicas: leave --replicas out, or choose replicated")
        return Durability(kind)  # type: ignore[arg-type]  # it is one of KINDS
    count = 1 if replicas is None else replicas
    if not 1 <= count <= MOST_REPLICAS:
        raise StoreUnusable(f"replicas: 1 to {MOST_REPLICAS}, not {count}")
    return Durability(kind, count)  # type: ignore[arg-type]  # it is one of KINDS


def recorded(text: str) -> Durability:
    """As `str` wrote it. Raises StoreUnusable: it was written by a version that knows more kinds."""
    kind, _, replicas = text.partition(" ")
    if kind not in KINDS or (replicas and not replicas.isdecimal()):
        raise StoreUnusable(f"the deployment has durability {text[:64]!r}, which this version of Orbit doesn't know")
    return Durability(kind, int(replicas or 0))  # type: ignore[arg-type]  # it is one of KINDS


# ---- which answers acknowledge


def _first(*kinds: bytes) -> Callable[[Any], bool]:
    return lambda reply: reply[0] in kinds


def _any(reply: Any) -> bool:
    return True


ACKNOWLEDGES: Final[Mapping[str, Callable[[Any], bool]]] = {
    # A verb returns to the State.
    "commit": _first(b"done", b"repeated"),
    # A receipt, a 202; and those refusals that say up to which mid messages are stored.
    "append": _first(b"stored", b"duplicate", b"wrong", b"full"),
    # `attached.last_mid`: up to it a client sends nothing again. A session without messages is told nothing.
    "attach": lambda reply: reply[0] == b"attached" and reply[5] != b"0",
    # A start's answer, 201 and 200; the child of a parent that will not start it again.
    "start": _first(b"started", b"existed"),
    # `cancelled`, 202; the child of a parent that will not cancel it again.
    "cancel": _first(b"set"),
    "retry": _first(b"retried"),
    # A child whose end is delivered, or taken, is not told of again, and may be removed.
    "deliver": _any,
    "schedule": _any,
    "unschedule": _any,
}
"""The scripts some of whose answers are acknowledgements, and which ones. All others acknowledge nothing: a grant, a
renewal, a release or a permit that is lost is found out and done anew, and nobody was told that it would last."""
