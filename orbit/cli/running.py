"""The running `orbit dev`, so that a command in another terminal finds it without being told where.

Each `orbit dev` holds a file of its own, locked for as long as it lives: the lock goes with the process, however that
ends, so a file without one is stale. The directory belongs to the user alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """Where an `orbit dev` is reached."""

    pid: int
    url: str
    redis: str
    namespace: str


def directory() -> Path | None:
    """The user's own directory for these files, made where it is missing; None where it isn't safe to use."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime else Path(tempfile.gettempdir())
    path = base / ("orbit" if runtime else f"orbit-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if private else None


@contextlib.contextmanager
def announced(running: Running) -> Iterator[None]:
    """While the block runs, others find `running`."""
    place = directory()
    if place is None:
        yield
        return
    path, draft = place / f"dev-{running.pid}.json", place / f"draft-{running.pid}.json"
    with draft.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(asdict(running), file)
        file.flush()
        draft.rename(path)  # locked and whole from the moment that it can be found
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def find() -> list[Running]:
    """All that run now; stale files are removed."""
    place = directory()
    if place is None:
        return []
    found = (_read(path) for path in sorted(place.glob("dev-*.json")))
    return [running for running in found if running is not None]


def _read(path: Path) -> Running | None:
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Running(**json.load(file))
            path.unlink(missing_ok=True)
    except (OSError, ValueError, TypeError):
        pass
    return None
