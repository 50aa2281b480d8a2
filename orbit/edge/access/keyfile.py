"""The file that the keys are in, read anew when it changes."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from orbit.edge.access.keys import KeySet, KeysUnusable, read_keys

log = logging.getLogger("orbit.edge.access")

LOOK_S = 1.0
"""The file is looked at no more often than that."""
FILE_BYTES = 1024 * 1024

Mark = tuple[int, int, int]
"""What tells that a file was changed: its inode, its size, when it was written."""


class KeyFile:
    """A JWK Set in a file.

    Args:
        clock: Seconds that only go forward.

    Raises:
        KeysUnusable: It can't be read, or is no JWK Set.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._looked_at = clock()
        self._mark, mode, self._keys = self._read()
        if mode & (stat.S_IRWXG | stat.S_IRWXO) and self._keys.signer is not None:
            log.warning("%s holds secrets, and others can read it: chmod 600", path)

    def keys(self) -> KeySet:
        """The keys as of a second ago or less. While the file can't be used, those that it held before."""
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()
        return self._keys

    def _look(self) -> None:
        mark: Mark | None = None
        try:
            mark = _mark(os.stat(self._path))
            if mark == self._mark:
                return
            self._mark, _, self._keys = self._read()
            log.info("%s: read anew", self._path)
        except OSError as error:
            self._complain(mark, f"{self._path}: {error.strerror or error}")
        except KeysUnusable as error:
            self._complain(mark, str(error))

    def _complain(self, mark: Mark | None, text: str) -> None:
        """Say once for each change that the file can't be used."""
        missing: Mark = (0, 0, 0)
        if self._mark != (mark or missing):
            self._mark = mark or missing
            log.error("%s; the keys from before stay in force", text)

    def _read(self) -> tuple[Mark, int, KeySet]:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                text = file.read(FILE_BYTES)
        except OSError as error:
            raise KeysUnusable(f"--token-keys {self._path}: {error.strerror or error}") from None
        try:
            return _mark(found), found.st_mode, read_keys(text)
        except KeysUnusable as error:
            raise KeysUnusable(f"--token-keys {self._path}: {error}") from None


def _mark(found: os.stat_result) -> Mark:
    return found.st_ino, found.st_size, found.st_mtime_ns
