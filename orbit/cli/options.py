"""The options that several commands share, each also an environment variable `ORBIT_<NAME>`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orbit.config import DEFAULT_PARTITIONS, Limits, Timing


def option(
    name: str,
    text: str,
    *,
    hidden: bool = False,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """An option `--name` that is also `ORBIT_NAME`."""
    return typer.Option(
        f"--{name}",
        envvar="ORBIT_" + name.replace("-", "_").upper(),
        help=text,
        hidden=hidden,
        metavar=metavar,
        min=least,
        max=most,
        show_envvar=False,
    )


def flag(name: str, text: str, *, hidden: bool = False) -> Any:
    """A switch `--name` without a `--no-name`."""
    return option(name, text, hidden=hidden)


App = Annotated[
    str,
    typer.Argument(
        metavar="APP", help="Where the States are: module, module:State, or a path to a .py file.", show_default=False
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The transaction's id.", show_default=False)]

Redis = Annotated[
    str | None,
    option(
        "redis", "Redis or Valkey: redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://.", metavar="URL"
    ),
]
Url = Annotated[str | None, option("url", "An edge to speak to, instead of Redis: http://host:port.", metavar="URL")]
Namespace = Annotated[str, option("namespace", "What every key begins with.", metavar="NAME")]
Partitions = Annotated[
    int | None,
    option(
        "partitions",
        f"Partitions, at a deployment's first use ({DEFAULT_PARTITIONS} unless told).",
        metavar="N",
        least=1,
    ),
]
Durability = Annotated[
    str | None,
    option(
        "durability",
        "What must hold what is acknowledged, at a deployment's first use: memory, fsync, replicated, replicated-fsync "
        "(memory unless told).",
        metavar="KIND",
    ),
]
Replicas = Annotated[
    int | None,
    option("replicas", "How many replicas hold it, with a replicated kind (1 unless told).", metavar="N", least=1),
]

Host = Annotated[str, option("host", "The address to listen on.", metavar="H")]
Port = Annotated[int, option("port", "The port to listen on; 0 takes a free one.", metavar="N", least=0, most=65535)]
Insecure = Annotated[bool, flag("insecure", "Serve without tokens on addresses that others can reach.")]
TokenKeys = Annotated[
    str | None, option("token-keys", "A file with a JWK Set: the keys that tokens are judged by.", metavar="FILE")
]
Audience = Annotated[str | None, option("audience", "What a token's aud must name.", metavar="A")]
Origin = Annotated[
    list[str] | None,
    option("origin", "An origin whose pages are let in, beside its own; may be given several times.", metavar="O"),
]
TrustedProxies = Annotated[
    list[str] | None,
    option(
        "trusted-proxies", "A network whose X-Forwarded-For is believed; may be given several times.", metavar="CIDR"
    ),
]
Sessions = Annotated[
    int, option("sessions", "Most sessions attached to one transaction; 0: any number.", metavar="N", least=0)
]


def _rate(name: str, what: str) -> Any:
    return option(name, f"{what} a second; 0: as many as it likes.", metavar="N", least=0.0)


ConnectionMessagesS = Annotated[float, _rate("connection-messages-s", "Messages that one connection may send")]
SubjectMessagesS = Annotated[float, _rate("subject-messages-s", "Messages that one token's subject may send")]
AddressMessagesS = Annotated[float, _rate("address-messages-s", "Messages that one address may send")]
SubjectStartsS = Annotated[float, _rate("subject-starts-s", "Transactions that one token's subject may start")]
AddressStartsS = Annotated[float, _rate("address-starts-s", "Transactions that one address may start")]
Workers = Annotated[int, option("workers", "How many worker processes.", metavar="N", least=1)]
Concurrency = Annotated[int, option("concurrency", "Transactions that a worker runs at once.", metavar="N", least=1)]
Queue = Annotated[
    list[str] | None, option(
        "queue",
        "A queue to take transactions from; may be given several times. Unless told: those that its States name.",
        metavar="NAME",
    ),
]
LeaseS = Annotated[
    float, option("lease-s", "How long a worker holds a transaction without a sign of life.", metavar="S", least=0.1)
]
DrainS = Annotated[float, option("drain-s", "How long a process takes to leave, at most.", metavar="S", least=0.0)]
HealthPort = Annotated[
    int | None,
    option("health-port", "Serve /livez, /readyz and /metrics on this port.", metavar="N", least=0, most=65535),
]
Processes = Annotated[
    int | None,
    option("processes", "Processes for steps with in_process; as many as CPUs unless told.", metavar="N", least=1),
]
LogLevel = Annotated[str, option("log-level", "debug, info, warning or error.", metavar="LEVEL")]
LogFormat = Annotated[str, option("log-format", "json, console, or auto: console on a terminal.", metavar="FORMAT")]
Json = Annotated[bool, flag("json", "JSON on stdout, for scripts.")]

DataBytes = Annotated[
    int, option("data-bytes", "Most bytes of one update, message or step's result.", metavar="N", least=1)
]
FrameBytes = Annotated[int, option("frame-bytes", "Most bytes of one frame or HTTP body.", metavar="N", least=1)]
SnapshotBytes = Annotated[int, option("snapshot-bytes", "Most bytes of a State's fields.", metavar="N", least=1)]
InboxMessages = Annotated[
    int, option("inbox-messages", "Most unread messages of one transaction.", metavar="N", least=1)
]
MaxConnections = Annotated[
    int,
    option(
        "max-connections", "Most connections at once; 0: as many as open files are allowed.", metavar="N", least=0
    ),
]
MaxAttaching = Annotated[
    int, option("max-attaching", "Most attaches under way at once; 0: any number.", metavar="N", least=0)
]
MaxLagS = Annotated[
    float,
    option(
        "max-lag-s",
        "Turn away who comes while the event loop is so late; 0: never.",
        metavar="S",
        least=0.0,
    ),
]
Attaches = Annotated[int, option("attaches", "Most attaches on one connection.", metavar="N", least=1)]
GraceS = Annotated[float, option("grace-s", "From a session's leaving to its on_disconnect.", metavar="S", least=0.0)]
SessionRetainS = Annotated[
    float, option("session-retain-s", "How long a detached session is remembered.", metavar="S", least=1.0)
]
RetainS = Annotated[
    float,
    option("retain-s", "How long an ended transaction is kept, where its State doesn't say.", metavar="S", least=0.0),
]

LIMITS = Limits()
TIMING = Timing()
