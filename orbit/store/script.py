"""The scripts: one `.lua` file each, sent by its SHA-1.

A line `-- include: a, b` in a script's head stands for the files `lib/a.lua`, `lib/b.lua`, put in its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)
_FOLDER = files("orbit.store") / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent. `writes`: after a lost connection its outcome is unknown."""

    name: str
    source: str
    writes: bool
    sha: str

    @classmethod
    def of(cls, name: str, source: str, *, writes: bool) -> Script:
        return cls(name, source, writes, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def read_source(name: str, edit: Callable[[str, str], str] = lambda name, text: text) -> str:
    """The text of a script with what it includes. `edit(name, text)` may change each file's (tests do)."""

    def included(match: re.Match[str]) -> str:
        return "".join(read(f"lib/{lib.strip()}") for lib in match[1].split(","))

    def read(file: str) -> str:
        return edit(file, (_FOLDER / f"{file}.lua").read_text("utf-8"))

    return _INCLUDE.sub(included, read(name))


def _writing(name: str) -> Script:
    return Script.of(name, read_source(name), writes=True)


def _reading(name: str) -> Script:
    return Script.of(name, read_source(name), writes=False)


START = _writing("start")
ATTACH = _writing("attach")
DETACH = _writing("detach")
SWEEP = _writing("sweep")
APPEND = _writing("append")
CLAIM = _writing("claim")
RENEW = _writing("renew")
COMMIT = _writing("commit")
RELEASE = _writing("release")
CANCEL = _writing("cancel")
RETRY = _writing("retry")
DUE = _writing("due")
REMOVE = _writing("remove")
LOAD = _reading("load")
WORK = _reading("work")
LOG = _reading("log")
RECENT = _reading("recent")
ROWS = _reading("rows")
LIST = _reading("list")
DEPLOYMENT = _writing("deployment")
BEAT = _writing("beat")
ALIVE = _reading("alive")
FORGET = _writing("forget")
PUBLISH = _writing("publish")
PROBE = _writing("probe")
DELIVER = _writing("deliver")
ACKNOWLEDGE = _writing("acknowledge")
OUTBOX = _reading("outbox")
ROUSE = _writing("rouse")
PERMIT = _writing("permit")
UNPERMIT = _writing("unpermit")
SCHEDULE = _writing("schedule")
UNSCHEDULE = _writing("unschedule")
FIRE = _writing("fire")
