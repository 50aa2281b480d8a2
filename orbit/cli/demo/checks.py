"""What a client of the demonstration saw, and what is wrong with it. Plain code over plain values.

The checks use nothing of what made the updates: they know the file, and they know that cursors number a log from 1.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """The file, as it truly is: its hash, and that of each chunk."""

    digest: str
    chunks: tuple[str, ...]


def job_of(path: Path, chunk_bytes: int) -> Job:
    """Read the file that is to be downloaded."""
    whole, chunks = hashlib.sha256(), []
    with path.open("rb") as file:
        while body := file.read(chunk_bytes):
            whole.update(body)
            chunks.append(hashlib.sha256(body).hexdigest())
    return Job(whole.hexdigest(), tuple(chunks))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One update, as it reached a client."""

    at_s: float
    cursor: str
    data: Any


@dataclass(slots=True)
class Seen:
    """All that reached one client."""

    arrivals: list[Arrival] = field(default_factory=list)
    resets: int = 0
    edges: list[str] = field(default_factory=list)
    """The edges that it was on, one after another."""
    status: str = ""
    result: Any = None

    @property
    def epochs(self) -> int:
        """Under how many grants what it saw was written."""
        return len({arrival.cursor.partition("-")[2] for arrival in self.arrivals})


def gaps(seen: Seen, job: Job) -> int:
    """How many updates never came: by their cursors, or by the chunks that they tell of, whichever are more."""
    numbers = range(1, len(job.chunks) + 1)
    return max(_missing(numbers, _seqs(seen)), _missing(numbers, _chunks(seen)))


def repeats(seen: Seen) -> int:
    """How many updates came more than once."""
    return max(_repeated(_seqs(seen)), _repeated(_chunks(seen)))


def disorder(seen: Seen) -> int:
    """How many updates came after a later one."""
    return max(sum(b < a for a, b in pairwise(numbers)) for numbers in (_seqs(seen), _chunks(seen)))


def faults(name: str, seen: Seen, job: Job) -> list[str]:
    """Everything that is wrong with what a client saw, one line each."""
    wrong_chunks = [a for a in seen.arrivals if a.data["sha256"] != job.chunks[a.data["chunk"] - 1]]
    result = seen.result if isinstance(seen.result, dict) else {}
    counted = (
        (gaps(seen, job), "updates missing"),
        (repeats(seen), "updates repeated"),
        (disorder(seen), "updates out of order"),
        (seen.resets, "resets"),
        (len(wrong_chunks), "chunks whose hash isn't the file's"),
    )
    found = [f"{name}: {count} {what}" for count, what in counted if count]
    if seen.status != "finished":
        found.append(f"{name}: the job was seen to end as {seen.status or 'nothing'}")
    elif result.get("sha256") != job.digest:
        found.append(f"{name}: the hash of the download isn't the file's")
    return found


def pause_s(seen: Seen, since_s: float, until_s: float) -> float:
    """The longest silence between two updates, of those that ended between the two moments."""
    times = [arrival.at_s for arrival in seen.arrivals]
    return max((b - a for a, b in pairwise(times) if since_s <= b <= until_s), default=0.0)


def _seqs(seen: Seen) -> list[int]:
    return [int(arrival.cursor.partition("-")[0]) for arrival in seen.arrivals]


def _chunks(seen: Seen) -> list[int]:
    return [arrival.data["chunk"] for arrival in seen.arrivals]


def _missing(numbers: Sequence[int], seen: Sequence[int]) -> int:
    return len(set(numbers) - set(seen))


def _repeated(seen: Sequence[int]) -> int:
    return sum(count - 1 for count in Counter(seen).values())
