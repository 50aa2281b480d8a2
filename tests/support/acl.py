"""The user of deploy/redis/users.acl."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
PASSWORD = "secret"


def orbit_rules(namespace: str) -> list[str]:
    """The rules of the user `orbit`, for another namespace and with a password that is known here."""
    (line,) = (line for line in FILE.read_text("ascii").splitlines() if line.startswith("user orbit "))
    own = [rule for rule in line.split()[2:] if not rule.startswith(">")]
    return [rule.replace("orbit:", f"{namespace}:") if rule[0] in "~&" else rule for rule in own] + [f">{PASSWORD}"]


def allowed() -> list[str]:
    """The commands that it may use."""
    return [rule[1:] for rule in orbit_rules("orbit") if rule.startswith("+")]
