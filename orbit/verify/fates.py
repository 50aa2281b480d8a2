"""Judges what became of messages and of transactions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from orbit.verify.trace import Finding

REFUSED = {"raise": "state_error", "reject": "forbidden"}
"""What a message asks for, and how the State refuses it then."""


@dataclass(frozen=True, slots=True)
class Said:
    """The messages of one client in one transaction, by its own numbers, and what it was told of them.

    Attributes:
        asked: What each asked the State to do.
        stored: Those that were confirmed, and of which nothing else was told since.
        lost: Those that are of unknown fate after a rewind.
        refused: Those that the State or the end refused, and the code.
        may_miss: It was reset: it may have been spared the news of a refusal.
    """

    client: str
    tx: str
    asked: Mapping[int, str]
    stored: frozenset[int]
    lost: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)
    may_miss: bool = False


def check_said(said: Said, handled: Sequence[int]) -> list[Finding]:
    """What is wrong with the fate of one client's messages.

    Args:
        handled: The numbers of its messages that the State wrote into its fields, in its order.
    """
    wrong = [f"message {n} was handled {count} times" for n, count in Counter(handled).items() if count > 1]
    if any(later < earlier for earlier, later in pairwise(handled)):
        wrong.append(f"handled out of order: {list(handled)}")
    done = set(handled)
    wrong += [f"message {n} was handled, and never sent" for n in sorted(done - said.asked.keys())]
    for n, do in said.asked.items():
        code, must = said.refused.get(n), REFUSED.get(do)
        if n in done and code is not None:
            wrong.append(f"message {n} was handled, and refused as {code}")
        if n in done and must is not None:
            wrong.append(f"message {n} was to be refused as {must}, and was handled")
        if code not in (None, must, "ended"):
            wrong.append(f"message {n} ({do}) was refused as {code}")
        if n in said.stored and n not in done and code is None and not (must is not None and said.may_miss):
            wrong.append(f"message {n} ({do}) was confirmed and lost in silence")
    return [Finding(text, said.client, said.tx) for text in wrong]


@dataclass(frozen=True, slots=True)
class Task:
    """A transaction that ends by itself or is cancelled: what it was asked and how it was seen to end.

    Attributes:
        wanted: The status and result that it must end with.
        ended: Those that a client saw; None where it saw no end.
        gone: Why nobody follows it any more (`not_found` where Redis lost it).
        crashed: It failed as it lost its workers again and again with nothing done in between.
    """

    client: str
    tx: str
    wanted: tuple[str, Any]
    ended: tuple[str, Any] | None
    gone: str | None = None
    crashed: bool = False


def check_task(task: Task, *, rewinds: bool, crashes: bool = False) -> list[Finding]:
    """What is wrong with how a transaction ended.

    Args:
        rewinds: Redis may have lost writes: a start, and then it is told as not found, and a cancel.
        crashes: Workers were lost on purpose: who loses several in a row fails, by the documented rule against poison.
    """
    if task.ended == task.wanted or (task.crashed and crashes):
        return []
    if task.ended is not None:
        text = f"ended as {task.ended}, not as {task.wanted}"
    elif task.gone in ("not_found", "gone") and rewinds:
        return []
    else:
        text = f"a transaction that was started has no end: {task.gone or 'nothing is heard of it'}"
    return [Finding(text, task.client, task.tx)]
